{{/* Annotations for a service mesh's sidecars. gRPC between them is told by appProtocol of the Services. */}}
{{- define "penstock.meshAnnotations" -}}
{{- if eq .Values.mesh.kind "linkerd" -}}
linkerd.io/inject: enabled
{{- else if eq .Values.mesh.kind "istio" -}}
sidecar.istio.io/inject: "true"
# The sidecar outlives what it carries.
proxy.istio.io/config: '{"terminationDrainDuration": "60s", "holdApplicationUntilProxyStarts": true}'
{{- end -}}
{{- end -}}
