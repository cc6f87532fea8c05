{{/* This repository, as a source of an Application. */}}
{{- define "root.repository" -}}
repoURL: {{ .Values.cluster.gitops.repository | quote }}
targetRevision: {{ .Values.cluster.gitops.revision | quote }}
{{- end -}}

{{/* How a sync goes on, once it has begun. An Application may add options at the end. */}}
{{- define "root.sync" -}}
# On a first install much waits for what other Applications bring: CRDs, webhooks, the namespace. Each attempt takes
# the newest commit, so that a push repairs what does not work. Argo CD's controller.sync.timeout.seconds ends them.
retry:
  limit: -1
  refresh: true
  backoff:
    duration: 5s
    factor: 2
    maxDuration: 2m
syncOptions:
  - ServerSideApply=true
  - ApplyOutOfSyncOnly=true
  - RespectIgnoreDifferences=true
  - SkipDryRunOnMissingResource=true
{{- end -}}
