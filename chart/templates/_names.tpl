{{- define "rhizome.name" -}}
{{- printf "%s-operator" (.Release.Name | trunc 54) -}}
{{- end -}}

{{- define "rhizome.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rhizome.name" .) -}}
{{- else -}}
{{- required "set serviceAccount.name, or serviceAccount.create to true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "rhizome.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "rhizome.labels" -}}
{{ include "rhizome.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "rhizome.image" -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest -}}
@{{ .Values.image.digest }}
{{- else -}}
:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "rhizome.pxeLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: pxe
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- /* The account in whose name Argo CD is installed. The operator's code asks for the
right to use the account of this name. */ -}}
{{- define "rhizome.installer" -}}
rhizome-installer
{{- end -}}

{{- define "rhizome.push" -}}
{{ include "rhizome.name" . }}-push
{{- end -}}
