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

{{/* What mounts the volume of models, and how. */}}
{{- define "platform.csi" -}}
{{- with .Values.cluster.models.efs -}}
driver: efs.csi.aws.com
# The folder of the access point that the models are written by, without the access point: its id is AWS's own, and
# it would make whoever reads the owner, who may write.
volumeHandle: {{ .fileSystemId }}:/models
readOnly: true
{{- else -}}
driver: s3.csi.aws.com
volumeAttributes:
  bucketName: {{ include "names.modelsBucket" . }}
  authenticationSource: driver
  # On the node's disk, which is its NVMe with gpuNodes.raid0. The smallest has 116 GiB, with the images and the
  # pods' folders.
  cache: emptyDir
  cacheEmptyDirSizeLimit: 60Gi
  # Of the driver's own pod: without a request it would starve beside an engine, and without a limit Mountpoint
  # would count on nearly all memory of the node for its read-ahead.
  mountpointContainerResourcesRequestsCpu: 200m
  mountpointContainerResourcesRequestsMemory: 1Gi
  mountpointContainerResourcesLimitsMemory: 2Gi
{{- end }}
{{- end }}

{{/* The volume's name, another for whatever cannot be changed of a volume. */}}
{{- define "platform.volume" -}}
{{ .Values.cluster.name }}-models-{{ include "platform.csi" . | fromYaml | toJson | sha256sum | trunc 8 }}
{{- end }}
