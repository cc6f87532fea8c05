{{/* What more than one object needs to know of the runtime. */}}

{{- define "runtime.selector" -}}
app.kubernetes.io/name: sd-runtime
app.kubernetes.io/instance: {{ .Values.name | toJson }}
{{- end }}

{{- define "runtime.labels" -}}
{{ include "runtime.selector" . }}
app.kubernetes.io/part-of: darkroom
{{- end }}

{{/* The fields that only one engine has a use for, as YAML. */}}
{{- define "runtime.oneEngineOnly" -}}
sdwebui:
  fields: [dynamicCheckpoint]
  reason: a ComfyUI workflow loads the models that it names
comfyui:
  fields: [customNodes, allowedNodes, deniedNodes]
  reason: the web UI has no nodes
{{- end }}

{{/* Refuses what Kubernetes would take and what would then never run, in the words of `darkroom validate`. */}}
{{- define "runtime.check" -}}
{{- $runtime := .Values.runtime -}}
{{- $gpus := list -}}
{{- $sold := "" -}}
{{- range .Values.cluster.gpuNodes.pools -}}
{{- $gpus = append $gpus .gpu -}}
{{- if eq .gpu $runtime.gpu }}{{ $sold = .capacity | default "any" }}{{ end -}}
{{- end -}}
{{- if not $sold -}}
{{- fail (printf "runtime.gpu: the cluster has no pool of %s: add one to cluster.gpuNodes.pools in cluster.yaml, or take one of %s" $runtime.gpu (join ", " $gpus)) -}}
{{- else if and (ne $sold $runtime.capacity) (ne $sold "any") (ne $runtime.capacity "any") -}}
{{- fail (printf "runtime.capacity: the cluster's pool of %s is %s alone: take that, or make the pool's capacity any" $runtime.gpu $sold) -}}
{{- end -}}
{{- with $runtime.scaling -}}
{{- if gt (int .minPods) (int .maxPods) -}}
{{- fail (printf "runtime.scaling.minPods: %d are more than maxPods, which is %d: lower minPods or raise maxPods" (int .minPods) (int .maxPods)) -}}
{{- end -}}
{{- end -}}
{{- range $engine, $only := include "runtime.oneEngineOnly" . | fromYaml -}}
{{- range $field := $only.fields -}}
{{- if and (get $runtime $field) (ne $engine $runtime.engine) -}}
{{- fail (printf "runtime.%s: it is for %s, since %s: leave it out" $field $engine $only.reason) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.workflows (ne "comfyui" $runtime.engine) -}}
{{- fail "workflows: only ComfyUI has workflows: remove the files, or set runtime.engine to comfyui" -}}
{{- end -}}
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

{{/* A text as an argument or variable that the container gets as it is: Kubernetes expands $(NAME) in it, and $$ to $. */}}
{{- define "runtime.literal" -}}
{{ . | replace "$" "$$" | toJson }}
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
