{{- define "gsop.metadata" -}}
name: {{ .Release.Name }}
labels:
  app: {{ .Release.Name }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "gsop.resources" -}}
{{- if .Values.resources -}}
{{ toYaml .Values.resources }}
{{- else if .Values.gpu -}}
requests: {cpu: "12", memory: 6Gi}
limits: {memory: 8Gi, nvidia.com/gpu: 1}
{{- else -}}
requests: {cpu: "2", memory: 2Gi}
limits: {memory: 4Gi}
{{- end }}
{{- end }}
