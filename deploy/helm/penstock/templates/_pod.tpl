{{/* What every process has: its settings as variables, probes, volumes, the right to nothing. */}}

{{- define "penstock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "penstock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where others reach a component: all of its pods, by the name of its Service. */}}
{{- define "penstock.host" -}}
{{- $ports := include "penstock.ports" .root | fromYaml -}}
{{ include "penstock.fullname" .root }}-{{ .name }}:{{ index $ports .name }}
{{- end -}}

{{/* The settings that wire processes together, by variable. Takes root, and name: of whoever reads them. */}}
{{- define "penstock.variables" -}}
{{- $root := .root -}}
PENSTOCK_CONFIG: /etc/penstock/penstock.toml
PENSTOCK_DATA_DIR: /var/lib/penstock
PENSTOCK_SERVICE_TOKEN_FILE: /etc/penstock/secrets/service-token
{{- if has .name (include "penstock.databases" $root | fromYamlArray) }}
PENSTOCK_DATABASE_URL_FILE: /etc/penstock/secrets/database-url
{{- end }}
PENSTOCK_AUTH_TOKEN_FILE: /etc/penstock/secrets/tokens.json
{{- if $root.Values.redis }}
PENSTOCK_REDIS_URL_FILE: /etc/penstock/secrets/redis-url
{{- end }}
PENSTOCK_LOG_FORMAT: json
PENSTOCK_LOG_LEVEL: {{ $root.Values.telemetry.logLevel }}
{{- with $root.Values.telemetry.otlpEndpoint }}
PENSTOCK_TELEMETRY_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- if $root.Values.tls.enabled }}
PENSTOCK_TLS_CERTIFICATE: /etc/penstock/tls/tls.crt
PENSTOCK_TLS_KEY: /etc/penstock/tls/tls.key
PENSTOCK_TLS_CLIENT_CA: /etc/penstock/tls/ca.crt
PENSTOCK_TLS_PEERS: {{ printf "spiffe://%s/*" $root.Values.tls.trustDomain | quote }}
{{- end }}
{{- range $name, $port := include "penstock.ports" $root | fromYaml }}
{{- $section := ternary "API" (printf "SERVICES_%s" (upper $name)) (eq $name "gateway") }}
PENSTOCK_{{ $section }}_ADDRESS: "0.0.0.0:{{ $port }}"
PENSTOCK_{{ $section }}_METRICS_ADDRESS: "0.0.0.0:{{ add $port 1000 }}"
{{- if ne $name "gateway" }}
PENSTOCK_{{ $section }}_TARGET: "dns:///{{ include "penstock.host" (dict "root" $root "name" $name) }}"
PENSTOCK_{{ $section }}_GRACE_S: {{ (index $root.Values.components $name).graceSeconds | quote }}
PENSTOCK_{{ $section }}_DRAIN_DELAY_S: "5"
PENSTOCK_{{ $section }}_REFLECTION: "false"
{{- end }}
{{- end }}
PENSTOCK_TRAINING_FOLDER: /var/lib/penstock/shared/training
{{- with $root.Values.objectStore }}
{{- if .url }}
PENSTOCK_BLOBS_URL: {{ .url | quote }}
PENSTOCK_BLOBS_ENDPOINT_URL: {{ .endpointUrl | quote }}
PENSTOCK_BLOBS_REGION: {{ .region | quote }}
{{- else }}
PENSTOCK_BLOBS_FOLDER: /var/lib/penstock/shared/blobs
{{- end }}
{{- end }}
{{- if $root.Values.models.existingClaim }}
PENSTOCK_SERVICES_MODEL_MODEL_ROOTS: /models
{{- end }}
{{- if $root.Values.triton.enabled }}
{{- $triton := printf "%s-triton" (include "penstock.fullname" $root) }}
{{- $endpoints := list }}
{{- range $number := until (int $root.Values.triton.replicas) }}
{{- $endpoints = append $endpoints (printf "%s-%d.%s:8001" $triton $number $triton) }}
{{- end }}
PENSTOCK_TRITON_ENDPOINTS: {{ join "," $endpoints | quote }}
{{- range $name, $engine := $root.Values.triton.engines }}
PENSTOCK_SERVICES_{{ upper $name }}_ENGINE: {{ $engine }}
{{- end }}
{{- end }}
{{- with $root.Values.ray }}
{{- if .enabled }}
PENSTOCK_TRAINING_TRAINER: ray
PENSTOCK_TRAINING_RAY_ADDRESS: "http://{{ include "penstock.fullname" $root }}-ray-head-svc:8265"
PENSTOCK_TRAINING_RAY_PYTHON: {{ .python | quote }}
PENSTOCK_TRAINING_RAY_CPUS: {{ .jobCpus | quote }}
PENSTOCK_TRAINING_RAY_GPUS: {{ .jobGpus | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* They as a list. `instead` replaces some; `extra` are the user's, which win. No name comes twice: the API server would
refuse that. */}}
{{- define "penstock.env" -}}
{{- $variables := mergeOverwrite (include "penstock.variables" . | fromYaml) (.instead | default dict) -}}
{{- range .extra }}
{{- $_ := unset $variables .name }}
{{- end }}
{{- range $name, $value := $variables }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How the kubelet asks. Its own gRPC probe knows no TLS: with that, the image's command asks. */}}
{{- define "penstock.probe" -}}
{{- $ports := include "penstock.ports" .root | fromYaml -}}
{{- $port := index $ports .name -}}
{{- $model := .component.readyModel | default "" -}}
{{- if eq .name "gateway" }}
{{- /* The edge answers for itself, whatever its services say: they are asked for theirs. */}}
httpGet: {path: /v2/health/live, port: {{ $port }}}
{{- else if .root.Values.tls.enabled }}
exec:
  command:
  - python
  - -m
  - services.rpc.probe
  - {{ .name }}
  {{- if and .ready $model }}
  - --model={{ $model }}
  {{- else if .ready }}
  - --ready
  {{- end }}
{{- else }}
grpc:
  port: {{ $port }}
  {{- if and .ready $model }}
  service: models/{{ $model }}
  {{- else if .ready }}
  service: penstock.{{ .name }}.v1.{{ title .name }}Service
  {{- end }}
{{- end }}
{{- end -}}

{{/* A container of a component: takes root, name, component, and how long preStop waits. */}}
{{- define "penstock.container" -}}
name: {{ .name }}
image: {{ include "penstock.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- $ports := include "penstock.ports" .root | fromYaml }}
{{- $port := index $ports .name }}
ports:
- {name: {{ ternary "http" "grpc" (eq .name "gateway") }}, containerPort: {{ $port }}}
- {name: {{ ternary "edge-metrics" "metrics" (eq .name "gateway") }}, containerPort: {{ add $port 1000 }}}
env:
{{- include "penstock.env" (dict "root" .root "name" .name "instead" .instead "extra" .component.extraEnv) }}
startupProbe:
  {{- include "penstock.probe" (merge (dict "ready" false) .) | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 150
livenessProbe:
  {{- include "penstock.probe" (merge (dict "ready" false) .) | nindent 2 }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  {{- include "penstock.probe" (merge (dict "ready" true) .) | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- if eq .name "gateway" }}
lifecycle:
  # It refuses from the first moment of its drain: whoever routes must know first.
  preStop: {sleep: {seconds: 5}}
{{- end }}
resources:
  {{- $resources := deepCopy .component.resources }}
  {{- if .component.gpu }}
  {{- $resources = mergeOverwrite $resources (dict "limits" (dict .component.gpuResource .component.gpuCount)) }}
  {{- end }}
  {{- toYaml $resources | nindent 2 }}
securityContext:
  {{- include "penstock.containerSecurity" . | nindent 2 }}
volumeMounts:
- {name: settings, mountPath: /etc/penstock/penstock.toml, subPath: penstock.toml, readOnly: true}
- {name: {{ .name }}-secrets, mountPath: /etc/penstock/secrets, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /var/lib/penstock}
{{- if .root.Values.tls.enabled }}
- {name: {{ .name }}-tls, mountPath: /etc/penstock/tls, readOnly: true}
{{- end }}
{{- if has .name (include "penstock.sharing" .root | fromYamlArray) }}
- {name: shared, mountPath: /var/lib/penstock/shared}
{{- end }}
{{- if and .root.Values.models.existingClaim (has .name (include "penstock.weighing" .root | fromYamlArray)) }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end -}}

{{/* Of the Secret, what a component needs and no more. */}}
{{- define "penstock.secretsVolume" -}}
- name: {{ .name }}-secrets
  secret:
    secretName: {{ .root.Values.secrets.existingSecret }}
    defaultMode: 0440
    items:
    - {key: service-token, path: service-token}
    - {key: tokens.json, path: tokens.json}
    {{- if .root.Values.redis }}
    - {key: redis-url, path: redis-url}
    {{- end }}
    {{- if has .name (include "penstock.databases" .root | fromYamlArray) }}
    - {key: database-url, path: database-url}
    {{- end }}
{{- end -}}

{{- define "penstock.tlsVolume" -}}
- name: {{ .name }}-tls
  secret:
    secretName: {{ .root.Values.tls.secretPrefix }}-{{ .name }}
    defaultMode: 0440
{{- end -}}
