{{- define "retinue.fullname" -}}
{{- if contains "retinue" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-retinue" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "retinue.modelsNamespace" -}}
{{- .Values.models.namespace | default (printf "%s-models" .Release.Namespace) }}
{{- end }}

{{- define "retinue.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Labels of every object; call with (dict "root" $ "component" "operator"). */}}
{{- define "retinue.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "retinue.selector" . }}
{{- end }}

{{- define "retinue.selector" -}}
app.kubernetes.io/name: retinue
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "retinue.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "retinue.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "retinue.postgresSecret" -}}
{{- if eq .Values.postgres.mode "external" }}{{ required "postgres.external.existingSecret: name the Secret that holds the connection string" .Values.postgres.external.existingSecret }}{{ else }}{{ include "retinue.fullname" . }}-postgres{{ end }}
{{- end }}

{{- define "retinue.postgresKey" -}}
{{- if eq .Values.postgres.mode "external" }}{{ .Values.postgres.external.key }}{{ else }}dsn{{ end }}
{{- end }}

{{/* What only the platform team decides, as every role reads it. */}}
{{- define "retinue.platform" -}}
{{- $profiles := list }}{{- range .Values.profiles }}{{- $profiles = append $profiles .name }}{{- end }}
{{- if not (has .Values.defaultProfile $profiles) }}
{{- fail (printf "defaultProfile: %s is not one of profiles (%s); name a listed one" .Values.defaultProfile (join ", " $profiles)) }}
{{- end }}
{{- $models := include "retinue.modelsNamespace" . }}
{{- if eq $models .Release.Namespace }}
{{- fail (printf "models.namespace: %s is the namespace of the release; model pods need another one" $models) }}
{{- end }}
{{- range .Values.namespaces }}
{{- if or (eq . $.Release.Namespace) (eq . $models) }}
{{- fail (printf "namespaces: %s is retinue's own; list only namespaces with assistants" .) }}
{{- end }}
{{- end }}
{{- $defaults := 0 }}{{- range .Values.modelRegistries }}{{- if .default }}{{- $defaults = add1 $defaults }}{{- end }}{{- end }}
{{- if ne (int $defaults) 1 }}
{{- fail (printf "modelRegistries: %d entries have default: true; exactly one must" (int $defaults)) }}
{{- end -}}
release: {{ include "retinue.fullname" . }}
releaseNamespace: {{ .Release.Namespace }}
modelsNamespace: {{ include "retinue.modelsNamespace" . }}
namespaces: {{ toJson .Values.namespaces }}
agentImage: {{ include "retinue.image" . }}
agentImagePullPolicy: {{ .Values.image.pullPolicy }}
defaultProfile: {{ .Values.defaultProfile }}
profiles: {{ toJson .Values.profiles }}
modelRegistries: {{ toJson .Values.modelRegistries }}
externalServers: {{ toJson .Values.externalServers }}
health: {{ toJson .Values.health }}
unusedSeconds: {{ .Values.models.unusedSeconds }}
{{- end }}

{{/* What the operator may do where tenants work: read, write status and revisions, tell events. */}}
{{- define "retinue.operatorTenantRules" }}
  - apiGroups: [retinue.dev]
    resources: [assistantdeployments, assistants, assistanttemplates]
    verbs: [get, list, watch]
  - apiGroups: [retinue.dev]
    resources: [assistantrevisions]
    verbs: [create, delete, get, list, patch, watch]
  - apiGroups: [retinue.dev]
    resources:
      - assistantdeployments/status
      - assistantrevisions/status
      - assistants/status
      - assistanttemplates/status
    verbs: [get, patch]
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get]
  - apiGroups: [""]
    resources: [events]
    verbs: [create, patch]
{{- end }}

{{/* Where pods of a role go: spread over nodes unless the values say otherwise. */}}
{{- define "retinue.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- else }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- .selector | nindent 8 }}
{{- end }}
{{- end }}
