{{/* AWS names, as darkroom_contract.names builds them. */}}

{{- define "names.isChina" -}}
{{ if hasPrefix "cn-" .Values.cluster.region }}true{{ end }}
{{- end }}

{{- define "names.partition" -}}
{{ if include "names.isChina" . }}aws-cn{{ else if hasPrefix "us-gov-" .Values.cluster.region }}aws-us-gov{{ else }}aws{{ end }}
{{- end }}

{{- define "names.runtimeQueue" -}}
{{ .Values.cluster.name }}-runtime-{{ .Values.name }}
{{- end }}

{{- define "names.deadLetterQueue" -}}
{{ .Values.cluster.name }}-dead-letter-{{ .Values.name }}
{{- end }}

{{/* Where SQS is: an emulator's queues are under its own address. */}}
{{- define "names.queueUrls" -}}
{{- with .Values.cluster.emulator -}}
{{ .endpoint }}
{{- else -}}
https://sqs.{{ .Values.cluster.region }}.amazonaws.com{{ if include "names.isChina" . }}.cn{{ end }}
{{- end }}/{{ .Values.cluster.account }}
{{- end }}

{{- define "names.resultTopicArn" -}}
arn:{{ include "names.partition" . }}:sns:{{ .Values.cluster.region }}:{{ .Values.cluster.account }}:{{ .Values.cluster.name }}-results
{{- end }}

{{/* Takes a dict: the purpose, and the root context. */}}
{{- define "names.bucket" -}}
{{ .root.Values.cluster.name }}-{{ .purpose }}-{{ .root.Values.cluster.account }}-{{ .root.Values.cluster.region }}
{{- end }}
