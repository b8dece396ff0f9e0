{{- define "oubliette.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
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

{{- /* what takes requests: the component that the service sends them to */ -}}
{{- define "oubliette.front" -}}
{{- if eq .Values.layout "cluster" }}api{{ else }}single{{ end -}}
{{- end -}}

{{- /* stop before something is installed that could not run */ -}}
{{- define "oubliette.check" -}}
{{- if eq .Values.layout "cluster" -}}
{{- $settings := .Values.settings -}}
{{- $given := merge (dict) $settings .Values.secrets.settings -}}
{{- range list "DATABASE_URI" "STORE_URI" "STORE_COUNTRY" "LEDGER_URI" "KEYS_URI" "BLOB_PLACES" "PUBLIC_URL" "OIDC_ISSUER" -}}
{{- if not (hasKey $given .) }}{{ fail (printf "a cluster needs the setting %s" .) }}{{ end -}}
{{- end -}}
{{- range list "STORE_URI" "LEDGER_URI" "BLOB_PLACES" -}}
{{- if contains "file:" (get $settings . | toString) }}{{ fail (printf "a cluster shares no folder: %s cannot be file:" .) }}{{ end -}}
{{- end -}}
{{- if contains "local:" (get $settings "KEYS_URI" | toString) }}{{ fail "a cluster shares no folder: KEYS_URI cannot be local:" }}{{ end -}}
{{- if contains "sqlite:" (get $settings "DATABASE_URI" | toString) }}{{ fail "a cluster needs PostgreSQL" }}{{ end -}}
{{- if not .Values.secrets.signing }}{{ fail "a cluster shares its signing key: secrets.signing names the Secret (NOTES tell how to make it)" }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* one pod: (dict "root" $ "component" "api" "args" (list "serve") "resources" ... "serves" true) */ -}}
{{- define "oubliette.pod" -}}
{{- $root := .root -}}
serviceAccountName: {{ .account | default (include "oubliette.name" $root) }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if .once }}
restartPolicy: Never
{{- else }}
# DRAIN_GRACE_S, in which it goes on taking requests (its address leaves the balancers only while it
# is told to stop, so no preStop is needed), 25 s for uploads and streams to end, and some to spare
terminationGracePeriodSeconds: {{ add 40 (int (get $root.Values.settings "DRAIN_GRACE_S" | default "5")) }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or $root.Values.secrets.signing .migrates }}
initContainers:
  {{- if .migrates }}
  - name: migrate
    command: [oubliette]
    args: [migrate]
    {{- include "oubliette.container" . | nindent 4 }}
  {{- end }}
  {{- if $root.Values.secrets.signing }}
  # copied into memory, where the files are for their owner alone (0600)
  - name: signing
    command: [install]
    args:
      - --mode=0600
      - --target-directory={{ $root.Values.settings.DATA_DIR }}/keyring/signing
      - /run/signing/signing.key
      - /run/signing/pseudonym.key
    image: {{ include "oubliette.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {cpu: 100m, memory: 64Mi}
    securityContext:
      {{- include "oubliette.rights" . | nindent 6 }}
    volumeMounts:
      - name: signing
        mountPath: /run/signing
        readOnly: true
      - name: keyring
        mountPath: {{ $root.Values.settings.DATA_DIR }}/keyring/signing
  {{- end }}
{{- end }}
containers:
  - name: {{ .component }}
    command: [oubliette]
    args:
      {{- toYaml .args | nindent 6 }}
    {{- if not .once }}
    ports:
      - name: http
        containerPort: {{ $root.Values.settings.LISTEN_PORT }}
    startupProbe:
      httpGet:
        path: /healthz
        port: http
      periodSeconds: 2
      failureThreshold: 60
    livenessProbe:
      httpGet:
        path: /healthz
        port: http
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet:
        path: /readyz
        port: http
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    {{- include "oubliette.container" . | nindent 4 }}
volumes:
  {{- if .claim }}
  - name: data
    persistentVolumeClaim:
      claimName: {{ .claim }}
  {{- else }}
  # the last anchored checkpoint that this process has seen, and nothing that must last
  - name: data
    emptyDir:
      sizeLimit: 64Mi
  {{- end }}
  {{- if $root.Values.secrets.signing }}
  - name: signing
    secret:
      secretName: {{ $root.Values.secrets.signing }}
      defaultMode: 0440
  - name: keyring
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  {{- end }}
  # nothing that passes through /tmp reaches a disk
  - name: tmp
    emptyDir:
      medium: Memory
      sizeLimit: 64Mi
  {{- range $root.Values.secrets.files }}
  - name: file-{{ . }}
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
  {{- with $root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "oubliette.rights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* what every container of the program shares: settings, secrets, folders, no rights */ -}}
{{- define "oubliette.container" -}}
{{- $root := .root -}}
image: {{ include "oubliette.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
env:
  {{- range $name, $value := $root.Values.settings }}
  - name: OUBLIETTE_{{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- range $name, $from := $root.Values.secrets.settings }}
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
{{- with $root.Values.secrets.environment }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- include "oubliette.rights" . | nindent 2 }}
volumeMounts:
  - name: data
    mountPath: {{ $root.Values.settings.DATA_DIR }}
  {{- if $root.Values.secrets.signing }}
  - name: keyring
    mountPath: {{ $root.Values.settings.DATA_DIR }}/keyring/signing
  {{- end }}
  - name: tmp
    mountPath: /tmp
  {{- range $root.Values.secrets.files }}
  - name: file-{{ . }}
    mountPath: /run/secrets/oubliette/{{ . }}
    readOnly: true
  {{- end }}
  {{- with $root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
