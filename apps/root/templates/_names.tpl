{{/* The queue by which Karpenter learns that instances are about to go. */}}
{{- define "root.interruptionQueue" -}}
{{ .Values.cluster.name }}-karpenter-interruptions
{{- end -}}
