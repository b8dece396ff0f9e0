"""When and whether a recording ends: policies, holds, erasures, certificates, restores."""
