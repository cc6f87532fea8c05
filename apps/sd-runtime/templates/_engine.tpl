{{/* How each engine is started: docs/engine-images.md says what its image makes of it. */}}

{{- define "engine.port" -}}
{{ eq .Values.runtime.engine "comfyui" | ternary 8188 7860 }}
{{- end }}

{{- define "engine.readyPath" -}}
{{ eq .Values.runtime.engine "comfyui" | ternary "/system_stats" "/sdapi/v1/options" }}
{{- end }}

{{/* AUTOMATIC1111's web UI 1.10: modules/cmd_args.py, extensions-builtin/Lora/preload.py. With --nowebui the agent could
     not tell its requests apart. */}}
{{- define "engine.arguments.sdwebui" -}}
- --api
- --listen
- --port=7860
# The image has everything: nothing is installed, cloned, fetched or checked when it starts.
- --skip-prepare-environment
- --skip-version-check
- --no-download-sd-model
# It would read every model once more, for a hash that no job asks for.
- --no-hashing
- --data-dir=/data
- --ckpt-dir=/models/checkpoints
- --vae-dir=/models/vae
- {{ printf "--lora-dir=/models/%s" .Values.runtime.loras | toJson }}
- --embeddings-dir=/models/embeddings
- --esrgan-models-path=/models/upscalers
{{- with .Values.runtime.checkpoint }}
- {{ printf "--ckpt=/models/checkpoints/%s" . | toJson }}
{{- end }}
{{- end }}

{{/* ComfyUI: comfy/cli_args.py. */}}
{{- define "engine.arguments.comfyui" -}}
- --listen=0.0.0.0
- --port=8188
- --extra-model-paths-config=/etc/comfyui/model-paths.yaml
- --output-directory=/outputs
- --temp-directory=/outputs
- --input-directory=/inputs
- --user-directory=/data
- --database-url=sqlite:////data/comfyui.db
# Mapped files are read page by page, which is many times slower than front to back on a volume that S3 is behind.
- --disable-mmap
{{- end }}

{{- define "engine.modelPaths" -}}
darkroom:
  base_path: /models
  checkpoints: checkpoints
  clip: clip
  clip_vision: clip_vision
  controlnet: controlnet
  diffusion_models: |
    unet
    diffusion_models
  embeddings: embeddings
  loras: {{ .Values.runtime.loras | toJson }}
  upscale_models: upscalers
  vae: vae
  {{- with .Values.runtime.customNodes }}
  custom_nodes: {{ toJson . }}
  {{- end }}
{{- end }}
