{{- /*
The objects come from the files of `manifests`, which the chart holds as a copy: what kustomize does to them in manifests/base is
done here. tests/cluster/checks/chart compares the results.
*/ -}}

{{- /* Labels that only helm sets. */ -}}
{{- define "populators.helmLabels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* The labels of manifests/base. */ -}}
{{- define "populators.labels" -}}
{{- (index (fromYaml (.Files.Get "manifests/base/kustomization.yaml")).labels 0).pairs | toYaml }}
{{- end -}}

{{- /* dict root name digest: an image by its tag, and by its digest if that is known. */ -}}
{{- define "populators.image" -}}
{{- $images := .root.Values.images -}}
{{ $images.prefix }}/{{ .name }}:{{ $images.tag | default .root.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}

{{- /* The ConfigMap's data: settings.env, the images, and the user's values over them. */ -}}
{{- define "populators.settings" -}}
{{- $settings := dict -}}
{{- range splitList "\n" (.Files.Get "manifests/base/settings.env") -}}
{{- if and . (not (hasPrefix "#" .)) -}}
{{- $pair := splitn "=" 2 . -}}
{{- $_ := set $settings $pair._0 $pair._1 -}}
{{- end -}}
{{- end -}}
{{- $digests := .Values.images.digests -}}
{{- $_ := set $settings "OVIRT_POPULATOR_IMAGE" (include "populators.image" (dict "root" . "name" "ovirt-populator" "digest" $digests.ovirt)) -}}
{{- $_ := set $settings "OPENSTACK_POPULATOR_IMAGE" (include "populators.image" (dict "root" . "name" "openstack-populator" "digest" $digests.openstack)) -}}
{{- range $name, $value := .Values.movers -}}
{{- /* YAML reads on and off without quotes as truth values. */ -}}
{{- if kindIs "bool" $value -}}{{- $value = ternary "on" "off" $value -}}{{- end -}}
{{- $_ := set $settings (printf "POPULATOR_%s" (snakecase $name | upper)) (toString $value) -}}
{{- end -}}
{{- with .Values.namespaces -}}
{{- $_ := set $settings "POPULATOR_NAMESPACES" (join "," .) -}}
{{- end -}}
{{- range $field, $name := dict "nodeSelector" "NODE_SELECTOR" "tolerations" "TOLERATIONS" "affinity" "AFFINITY" "labels" "LABELS" "annotations" "ANNOTATIONS" -}}
{{- with get $.Values.pods $field -}}{{- $_ := set $settings (printf "POPULATOR_%s" $name) (toJson .) -}}{{- end -}}
{{- end -}}
{{- with .Values.pods.priorityClassName -}}{{- $_ := set $settings "POPULATOR_PRIORITY_CLASS" . -}}{{- end -}}
{{- with .Values.pods.runtimeClassName -}}{{- $_ := set $settings "POPULATOR_RUNTIME_CLASS" . -}}{{- end -}}
{{- with .Values.pods.caBundle -}}{{- $_ := set $settings "POPULATOR_CA_BUNDLE" . -}}{{- end -}}
{{- with .Values.pods.imagePullSecrets -}}{{- $_ := set $settings "POPULATOR_IMAGE_PULL_SECRETS" (join "," .) -}}{{- end -}}
{{- range $name, $value := .Values.settings -}}
{{- $_ := set $settings $name (toString $value) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- /*
dict root path base: the objects of a file below manifests, in the release's namespace; with the labels of the base, if they are
of it.
*/ -}}
{{- define "populators.objects" -}}
{{- $root := .root -}}
{{- $base := .base -}}
{{- $clusterScoped := list "ClusterRole" "ClusterRoleBinding" "SecurityContextConstraints" "ValidatingAdmissionPolicy" "ValidatingAdmissionPolicyBinding" "VolumePopulator" -}}
{{- $account := printf "system:serviceaccount:%s:" $root.Release.Namespace -}}
{{- $text := $root.Files.Get (printf "manifests/%s" .path) | required (printf "the chart lacks manifests/%s" .path) -}}
{{- $text = $text | replace "system:serviceaccount:volume-populators:" $account -}}
{{- $text = $text | replace "'registry.example.org/populators/'" (printf "'%s/'" $root.Values.images.prefix) -}}
{{- $bundle := (fromYaml (include "populators.settings" $root)).POPULATOR_CA_BUNDLE | default "" | trim | splitList "/" | first -}}
{{- $text = $text | replace "name: caBundle\n    expression: \"''\"" (printf "name: caBundle\n    expression: \"'%s'\"" $bundle) -}}
{{- range regexSplit "(?m)^---$" $text -1 -}}
{{- $object := fromYaml . -}}
{{- with $object.Error -}}{{- fail . -}}{{- end -}}
{{- $labels := fromYaml (include "populators.helmLabels" $root) -}}
{{- if $base -}}
{{- $labels = merge $labels (fromYaml (include "populators.labels" $root)) -}}
{{- end -}}
{{- $_ := set $object.metadata "labels" (merge $labels ($object.metadata.labels | default dict)) -}}
{{- if not (has $object.kind $clusterScoped) -}}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace -}}
{{- end -}}
{{- range $object.subjects -}}
{{- $_ := set . "namespace" $root.Release.Namespace -}}
{{- end -}}
{{- /* Bound in each of the namespaces instead. */ -}}
{{- if not (and $root.Values.namespaces (eq $object.kind "ClusterRoleBinding") (eq $object.metadata.name "populator-controller")) -}}
{{- include (printf "populators.%s" $object.kind | lower | regexFind "populators.(clusterrole|deployment|networkpolicy)$" | default "populators.asItIs") (dict "root" $root "object" $object) }}
---
{{ toYaml $object }}
{{ end -}}
{{- end -}}
{{- end -}}

{{- define "populators.asItIs" -}}{{- end -}}

{{- /* Adds the rules of components, which are patches there. */ -}}
{{- define "populators.clusterrole" -}}
{{- $root := .root -}}
{{- $object := .object -}}
{{- $components := $root.Values.components -}}
{{- $folders := dict "forklift-crds" $components.forkliftCrds "openshift" $components.openshift "pod-logs" $components.podLogs "reference-grants" $components.referenceGrants "start-deadline" $components.startDeadline -}}
{{- range $folder, $wanted := $folders -}}
{{- if $wanted -}}
{{- range (fromYaml ($root.Files.Get (printf "manifests/components/%s/kustomization.yaml" $folder))).patches -}}
{{- if and (eq (dig "target" "kind" "" .) "ClusterRole") (eq (dig "target" "name" "" .) $object.metadata.name) -}}
{{- range fromYamlArray .patch -}}
{{- if or (ne .op "add") (ne .path "/rules/-") -}}{{- fail (printf "the chart does not know the patch %s %s of %s" .op .path $folder) -}}{{- end -}}
{{- $_ := set $object "rules" (append $object.rules .value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "populators.networkpolicy" -}}
{{- if .root.Values.components.metricsForMonitoring -}}
{{- $labels := dict "kubernetes.io/metadata.name" .root.Values.monitoringNamespace -}}
{{- $_ := set (index .object.spec.ingress 0) "from" (list (dict "namespaceSelector" (dict "matchLabels" $labels))) -}}
{{- end -}}
{{- end -}}

{{- define "populators.deployment" -}}
{{- $root := .root -}}
{{- $values := $root.Values.controller -}}
{{- $template := .object.spec.template -}}
{{- $pod := $template.spec -}}
{{- $container := index $pod.containers 0 -}}
{{- $_ := set $template.metadata "labels" (merge $template.metadata.labels (fromYaml (include "populators.labels" $root))) -}}
{{- /* A change of the settings restarts the controller. */ -}}
{{- $_ := set $template.metadata.annotations "checksum/settings" (include "populators.settings" $root | sha256sum) -}}
{{- $_ := set .object.spec "replicas" $values.replicas -}}
{{- $_ := set $container "image" (include "populators.image" (dict "root" $root "name" "populator-controller" "digest" $root.Values.images.digests.controller)) -}}
{{- $_ := set $container "args" (concat $container.args $values.args) -}}
{{- with $root.Values.images.pullPolicy -}}{{- $_ := set $container "imagePullPolicy" . -}}{{- end -}}
{{- $secrets := list -}}
{{- range $root.Values.images.pullSecrets -}}{{- $secrets = append $secrets (dict "name" .) -}}{{- end -}}
{{- with $secrets -}}{{- $_ := set $pod "imagePullSecrets" . -}}{{- end -}}
{{- with $values.resources -}}{{- $_ := set $container "resources" . -}}{{- end -}}
{{- range list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- $field := . -}}
{{- with get $values $field -}}{{- $_ := set $pod $field . -}}{{- end -}}
{{- end -}}
{{- end -}}
