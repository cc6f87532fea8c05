{{- /* The node class, of which there is one kind or the other. */}}
{{- define "nodeClassRef" -}}
{{- if .Values.cluster.emulator -}}
group: karpenter.kwok.sh
kind: KWOKNodeClass
{{- else -}}
group: karpenter.k8s.aws
kind: EC2NodeClass
{{- end }}
name: gpu
{{- end }}

{{- /* AWS's name of the nodes' instance profile. */}}
{{- define "nodeInstanceProfile" -}}
{{ .Values.cluster.name }}-node
{{- end }}
