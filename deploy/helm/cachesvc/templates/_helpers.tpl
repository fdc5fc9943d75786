{{- define "cachesvc.name" -}}
{{- printf "%s" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "cachesvc.selector" -}}
app.kubernetes.io/name: cachesvc
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cachesvc.labels" -}}
{{ include "cachesvc.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "cachesvc.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "cachesvc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: ["ALL"]}
{{- end -}}

{{/* The configuration: what the values say, and what the pod decides. */}}
{{- define "cachesvc.config" -}}
{{- $ours := dict
  "server" (dict "listen" "0.0.0.0:50051" "insecure_bind" true)
  "admin" (dict "listen" "0.0.0.0:50052" "insecure_bind" true "backup_dir" "/var/lib/cachesvc/backups")
  "store" (dict "path" "/var/lib/cachesvc/store") -}}
{{- mustMergeOverwrite (deepCopy .Values.config) $ours | toToml -}}
{{- end -}}

{{/* A native sidecar for another chart's pod: include it in initContainers. It needs volumes named
     cachesvc-data and cachesvc-config, as deploy/kubernetes/sidecar.yaml has them. */}}
{{- define "cachesvc.sidecar" -}}
- name: cachesvc
  image: {{ include "cachesvc.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: ["serve", "--config", "/etc/cachesvc/cachesvc.toml"]
  startupProbe:
    exec: {command: ["cachesvc", "health", "--server", "127.0.0.1:50051"]}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 60
  resources: {{- toYaml .Values.resources | nindent 4 }}
  securityContext: {{- include "cachesvc.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: cachesvc-data, mountPath: /var/lib/cachesvc}
    - {name: cachesvc-config, mountPath: /etc/cachesvc, readOnly: true}
{{- end -}}
