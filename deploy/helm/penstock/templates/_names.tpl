{{/* Names and labels. */}}

{{- define "penstock.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select; takes root and name. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Labels that select pods with an edge in them, wherever it is placed. */}}
{{- define "penstock.gatewaySelector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
penstock/gateway: "true"
{{- end -}}

{{- define "penstock.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ include "penstock.fullname" . }}
{{- else -}}
{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "penstock.image" -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- if .root.Values.image.registry }}{{ .root.Values.image.registry }}/{{ end -}}
{{ .root.Values.image.repository }}/{{ .name }}:{{ $tag }}{{ if .component.gpu }}-gpu{{ end }}
{{- end -}}

{{/* Ports, as services.settings has them by default. Metrics are at the port + 1000. */}}
{{- define "penstock.ports" -}}
gateway: 8080
model: 50051
inference: 50052
embedding: 50053
image: 50054
training: 50055
retrieval: 50056
{{- end -}}

{{/* Who calls whom. NetworkPolicies are made of this. */}}
{{- define "penstock.calls" -}}
envoy: [gateway, model, inference, embedding, image, training, retrieval]
gateway: [model, inference, embedding, image, training, retrieval]
model: []
inference: [model]
embedding: [model]
image: [model]
training: [model]
retrieval: [model, embedding, inference]
test: [model, inference, embedding, image, training, retrieval]
{{- end -}}

{{/* Who keeps data in the database. */}}
{{- define "penstock.databases" -}}
[model, inference, training, retrieval]
{{- end -}}

{{/* Who has the shared folder. */}}
{{- define "penstock.sharing" -}}
[model, inference, training]
{{- end -}}

{{/* Who has the folder of weights. */}}
{{- define "penstock.weighing" -}}
[model, inference, embedding, image, training]
{{- end -}}
