{{/* What more than one object needs to know. */}}

{{/* The cluster's name and place alone, as every composite has it. */}}
{{- define "platform.location" -}}
{{ include "platform.stated" (pick .Values.cluster "name" "account" "region" "eksName") }}
{{- end }}

{{/* A value as JSON, without the fields that are null: Kubernetes refuses those. */}}
{{- define "platform.stated" -}}
{{- $parts := list -}}
{{- if kindIs "map" . -}}
{{- range $name, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $parts = append $parts (printf "%s: %s" (toJson $name) (include "platform.stated" $value)) -}}
{{- end -}}
{{- end -}}
{{ printf "{%s}" (join ", " $parts) }}
{{- else if kindIs "slice" . -}}
{{- range . -}}
{{- $parts = append $parts (include "platform.stated" .) -}}
{{- end -}}
{{ printf "[%s]" (join ", " $parts) }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{/* An image by its digest; takes a dict: the image's key in images.yaml, and the root context. */}}
{{- define "platform.image" -}}
{{- $image := get .root.Values.images .key -}}
{{- if not $image -}}
{{- fail (printf "images.%s is empty: continuous integration writes it into clusters/%s/images.yaml" .key .root.Values.cluster.name) -}}
{{- end -}}
{{ $image | toJson }}
{{- end }}

{{/* Whether the volume of models can be made: a file system that Storage makes is known only afterwards. */}}
{{- define "platform.hasVolume" -}}
{{- with .Values.cluster.models.efs }}{{ .fileSystemId | default "" }}{{ else }}true{{ end }}
{{- end }}

{{/* The volume's name says where it is, since no volume can be moved. */}}
{{- define "platform.volume" -}}
{{ .Values.cluster.name }}-models-{{ empty .Values.cluster.models.efs | ternary "s3" "efs" }}
{{- end }}
