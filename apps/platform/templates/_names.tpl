{{/* AWS names, as darkroom_contract.names builds them. */}}

{{- define "names.modelsBucket" -}}
{{- with .Values.cluster -}}
{{ .name }}-models-{{ .account }}-{{ .region }}
{{- end }}
{{- end }}
