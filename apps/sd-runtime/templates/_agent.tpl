{{/* The environment of the queue agent, by name: its settings are explained in darkroom_agent.settings. */}}
{{- define "agent.environment" -}}
{{- $queues := include "names.queueUrls" . -}}
{{- $runtime := .Values.runtime -}}
{{- $tenants := list -}}
{{- range .Values.cluster.tenants }}{{ $tenants = append $tenants .name }}{{ end -}}
AWS_REGION: {{ .Values.cluster.region }}
AWS_DEFAULT_REGION: {{ .Values.cluster.region }}
{{- with .Values.cluster.emulator }}
AWS_ENDPOINT_URL: {{ .endpoint | toJson }}
AWS_ACCESS_KEY_ID: local
AWS_SECRET_ACCESS_KEY: local
{{- end }}
QUEUE_URL: {{ printf "%s/%s" $queues (include "names.runtimeQueue" .) | toJson }}
DEAD_LETTER_QUEUE_URL: {{ printf "%s/%s" $queues (include "names.deadLetterQueue" .) | toJson }}
RESULT_TOPIC_ARN: {{ include "names.resultTopicArn" . }}
OUTPUT_BUCKET: {{ include "names.bucket" (dict "purpose" "outputs" "root" .) | toJson }}
JOBS_BUCKET: {{ include "names.bucket" (dict "purpose" "jobs" "root" .) | toJson }}
ENGINE: {{ $runtime.engine }}
RUNTIME_NAME: {{ .Values.name | toJson }}
RUNTIME_URL: http://127.0.0.1:{{ include "engine.port" . }}
HEALTH_PORT: "8081"
# Spot takes the node away after two minutes.
SHUTDOWN_BUDGET_SECONDS: "100"
JOB_TIMEOUT_SECONDS: {{ $runtime.jobTimeoutSeconds | int | quote }}
MAX_STARTS: {{ $runtime.maxStarts | int | quote }}
CHECKPOINT: {{ $runtime.checkpoint | default "" | toJson }}
DYNAMIC_CHECKPOINT: {{ $runtime.dynamicCheckpoint | quote }}
WARMUP: {{ with $runtime.warmup }}{{ toJson . | toJson }}{{ else }}""{{ end }}
INPUT_BUCKETS: {{ join "," .Values.cluster.inputBuckets | toJson }}
INPUT_HOSTS: {{ join "," $runtime.inputHosts | toJson }}
TENANTS: {{ join "," $tenants | toJson }}
ALLOWED_NODES: {{ join "," $runtime.allowedNodes | toJson }}
DENIED_NODES: {{ join "," $runtime.deniedNodes | toJson }}
{{- if eq $runtime.engine "comfyui" }}
ENGINE_OUTPUT_FOLDER: /outputs
ENGINE_INPUT_FOLDER: /inputs
{{- end }}
{{- end }}
