{{- define "oubliette.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "oubliette.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "oubliette.labels" -}}
{{ include "oubliette.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "oubliette.image" -}}
{{- $repository := required "image.repository names your registry's image" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* what the service and the migration share: settings, secrets, folders, no rights */ -}}
{{- define "oubliette.container" -}}
image: {{ include "oubliette.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- range $name, $value := .Values.settings }}
  - name: OUBLIETTE_{{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- range $name, $from := .Values.secrets.settings }}
  - name: OUBLIETTE_{{ $name }}
    valueFrom:
      secretKeyRef:
        name: {{ $from.name }}
        key: {{ $from.key }}
  {{- end }}
  {{- /* receiving audio makes large bytes objects: glibc keeps their pages (docs/operate.md) */}}
  - name: MALLOC_TRIM_THRESHOLD_
    value: "268435456"
  - name: MALLOC_MMAP_THRESHOLD_
    value: "33554432"
  - name: MALLOC_TOP_PAD_
    value: "16777216"
{{- with .Values.secrets.environment }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: data
    mountPath: {{ .Values.settings.DATA_DIR }}
  - name: tmp
    mountPath: /tmp
{{- end -}}
