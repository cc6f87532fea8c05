{{/* What more than one object needs to know of the runtime. */}}

{{- define "runtime.selector" -}}
app.kubernetes.io/name: sd-runtime
app.kubernetes.io/instance: {{ .Values.name | toJson }}
{{- end }}

{{- define "runtime.labels" -}}
{{ include "runtime.selector" . }}
app.kubernetes.io/part-of: darkroom
{{- end }}

{{/* An image by its digest; takes a dict: the image's key in images.yaml, and the root context. */}}
{{- define "runtime.image" -}}
{{- $image := get .root.Values.images .key -}}
{{- if not $image -}}
{{- fail (printf "images.%s is empty: continuous integration writes it into clusters/%s/images.yaml" .key .root.Values.cluster.name) -}}
{{- end -}}
{{ $image | toJson }}
{{- end }}

{{/* The facts of its GPU, as YAML. */}}
{{- define "runtime.gpu" -}}
{{- get (.Files.Get "gpus.yaml" | fromYaml) .Values.runtime.gpu | toYaml }}
{{- end }}

{{/* What is read ahead of the engine: the files of the volume that are known to be needed, as JSON. */}}
{{- define "runtime.readAhead" -}}
{{- $paths := list -}}
{{- with .Values.runtime.checkpoint }}{{ $paths = append $paths (printf "/models/checkpoints/%s" .) }}{{ end -}}
{{- with .Values.runtime.customNodes }}{{ $paths = append $paths (printf "/models/%s" .) }}{{ end -}}
{{ toJson $paths }}
{{- end }}

{{- define "runtime.readyFile" -}}
/run/read-ahead/ready
{{- end }}

{{/* The engine's image: the runtime's own, or the cluster's. */}}
{{- define "runtime.engineImage" -}}
{{- with .Values.runtime.image -}}
{{ toJson . }}
{{- else -}}
{{ include "runtime.image" (dict "key" .Values.runtime.engine "root" .) }}
{{- end }}
{{- end }}

{{/* Queue length a pod: so many pictures are begun within the time that somebody is to wait at most. */}}
{{- define "runtime.queueLength" -}}
{{- $scaling := .Values.runtime.scaling -}}
{{- $seconds := $scaling.secondsPerPicture | default (include "runtime.gpu" . | fromYaml).secondsPerPicture -}}
{{ max 1 (divf $scaling.startWithinSeconds $seconds | floor | int) }}
{{- end }}

{{/* What every container may do: Kubernetes' restricted standard, and a root file system that stays as it is. */}}
{{- define "runtime.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
