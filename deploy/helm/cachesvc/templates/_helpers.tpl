{{- define "cachesvc.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
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
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "cachesvc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities: {drop: ["ALL"]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The configuration: what the values say, and what the pod decides. */}}
{{- define "cachesvc.config" -}}
{{- $server := dict "listen" "0.0.0.0:50051" "insecure_bind" true -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $server = dict "listen" "127.0.0.1:50051" -}}
{{- end -}}
{{- $ours := dict
  "server" $server
  "admin" (dict "listen" "0.0.0.0:50052" "insecure_bind" true "backup_dir" "/var/lib/cachesvc/backups")
  "store" (dict "path" "/var/lib/cachesvc/store") -}}
{{- mustMergeOverwrite (deepCopy .Values.config) $ours | toToml -}}
{{- end -}}

{{/* A digest of the settings that take a restart. Those left out here are taken while it runs. */}}
{{- define "cachesvc.startOnly" -}}
{{- $config := omit (deepCopy .Values.config) "policy" "limits" -}}
{{- $live := dict
  "embedder" (list "max_wait_s" "min_left_s")
  "log" (list "level")
  "store" (list "high_watermark" "low_watermark" "max_entries" "max_use_notes" "tidy_interval_s") -}}
{{- range $section, $names := $live -}}
{{- with get $config $section -}}
{{- $section_values := . -}}
{{- range $names -}}{{- $_ := unset $section_values . -}}{{- end -}}
{{- end -}}
{{- if not (get $config $section) -}}{{- $_ := unset $config $section -}}{{- end -}}
{{- end -}}
{{- toJson $config | sha256sum -}}
{{- end -}}

{{/* What would fail only later, and elsewhere. */}}
{{- define "cachesvc.check" -}}
{{- $drain := dig "server" "drain_s" 10 .Values.config | float64 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf (mulf 2 $drain) 10) -}}
{{- fail (printf "terminationGracePeriodSeconds %v must be at least twice config.server.drain_s (%v) and 10 more: each port drains in turn" .Values.terminationGracePeriodSeconds $drain) -}}
{{- end -}}
{{- if and (dig "telemetry" "otlp_endpoint" "" .Values.config) .Values.networkPolicy.enabled (not .Values.networkPolicy.egress) -}}
{{- fail "config.telemetry.otlp_endpoint is set and the network policy lets nothing out: allow the collector, and DNS, in networkPolicy.egress" -}}
{{- end -}}
{{- end -}}

{{/* A native sidecar in the pod of a chart that depends on this one, with mode: sidecar. Into initContainers:
       {{- include "cachesvc.sidecar" .Subcharts.cachesvc | nindent 8 }}
     into volumes:
       {{- include "cachesvc.sidecarVolumes" .Subcharts.cachesvc | nindent 8 }}
     and into the pod's annotations, so that settings that take a restart get one:
       checksum/cachesvc: {{ include "cachesvc.startOnly" .Subcharts.cachesvc }} */}}
{{- define "cachesvc.sidecar" -}}
- name: cachesvc
  image: {{ include "cachesvc.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  env:
    - {name: CACHESVC_CONFIG, value: /etc/cachesvc/cachesvc.toml}
  ports:
    - {name: cache-metrics, containerPort: 50052}
  livenessProbe:
    exec: {command: ["cachesvc", "health", "--server", "127.0.0.1:50051"]}  # reads no configuration, which may be wrong by then
    initialDelaySeconds: {{ .Values.sidecar.initialDelaySeconds }}
    periodSeconds: 30
    timeoutSeconds: 10
    failureThreshold: 3
  resources: {{- toYaml .Values.resources | nindent 4 }}
  securityContext: {{- include "cachesvc.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: cachesvc-data, mountPath: /var/lib/cachesvc}
    - {name: cachesvc-config, mountPath: /etc/cachesvc, readOnly: true}
{{- end -}}

{{- define "cachesvc.sidecarVolumes" -}}
- name: cachesvc-data
  emptyDir: {sizeLimit: {{ .Values.persistence.size }}}
- name: cachesvc-config
  configMap: {name: {{ include "cachesvc.name" . }}}
{{- end -}}
