package crds_test

import "slices"

const (
	chartsWanted     = "must be an http, https or oci URL of a chart repository, such as https://argoproj.github.io/argo-helm, without user name and password"
	repositoryWanted = "must be the URL of a git repository, such as https://github.com/you/homelab.git or git@github.com:you/homelab.git; credentials go into a Secret"
	giteaWanted      = "must be the http or https URL of Gitea, such as http://gitea-http.gitea:3000, without user name and password"
	branchWanted     = "must be the name of a branch, such as main"
	directoryWanted  = "must be a directory of the repository or a pattern of directories, such as system/*, without a leading slash and without .."
	layerOrder       = "must name in dependsOn only layers that stand before it in the list, so that none waits for itself"
)

var gitOpsRefused = slices.Concat([]bad{
	// spec.argoCD
	{name: "charts in a directory", of: "gitops", set: fields{"spec.argoCD.repository": "/srv/charts"}, field: "spec.argoCD.repository", message: chartsWanted},
	{name: "charts with a password", of: "gitops", set: fields{"spec.argoCD.repository": "https://me:secret@example.org/charts"}, field: "spec.argoCD.repository", message: chartsWanted},
	{name: "a chart that is no name", of: "gitops", set: fields{"spec.argoCD.chart": "argo/argo-cd"}, field: "spec.argoCD.chart", message: "must be the name of a chart, such as argo-cd"},
	{name: "a range of versions", of: "gitops", set: fields{"spec.argoCD.version": "^7.9.0"}, field: "spec.argoCD.version", message: "must be one version, such as 7.9.1, not a range"},
	{name: "a namespace in upper case", of: "gitops", set: fields{"spec.argoCD.namespace": "ArgoCD"}, field: "spec.argoCD.namespace", message: "must be the name of a namespace: lower-case letters, digits and dashes"},
	{name: "another namespace than at first", of: "gitops", update: true, set: fields{"spec.argoCD.namespace": "argo"}, field: "spec.argoCD.namespace", message: "is immutable: the Applications live in the namespace that Argo CD was installed in"},

	// spec.source
	{name: "a pin to a home that is not declared", of: "gitops", set: fields{"spec.home": remove{}, "spec.source": "Home"}, field: "spec.source", message: "cannot be Home without spec.home"},

	// spec.seed
	{name: "a repository that is no URL", of: "gitops", set: fields{"spec.seed.url": "you/homelab"}, field: "spec.seed.url", message: repositoryWanted},
	{name: "a repository with a password", of: "gitops", set: fields{"spec.seed.url": "https://you:token@github.com/you/homelab"}, field: "spec.seed.url", message: repositoryWanted},
	{name: "a branch that is an option", of: "gitops", set: fields{"spec.seed.branch": "--upload-pack=evil"}, field: "spec.seed.branch", message: branchWanted},
	{name: "a branch with two dots", of: "gitops", set: fields{"spec.seed.branch": "a..b"}, field: "spec.seed.branch", message: branchWanted},

	// spec.home
	{name: "Gitea over ssh", of: "gitops", set: fields{"spec.home.url": "ssh://git@gitea/"}, field: "spec.home.url", message: giteaWanted},
	{name: "Gitea with a password", of: "gitops", set: fields{"spec.home.url": "http://root:secret@gitea:3000"}, field: "spec.home.url", message: giteaWanted},
	{name: "an owner with a slash", of: "gitops", set: fields{"spec.home.owner": "home/lab"}, field: "spec.home.owner",
		message: "must be the name of a Gitea organisation: letters, digits, dashes, underscores and dots"},
	{name: "a repository with a slash", of: "gitops", set: fields{"spec.home.repository": "home/lab"}, field: "spec.home.repository",
		message: "must be the name of a repository: letters, digits, dashes, underscores and dots"},
	{name: "Gitea in a layer that is not there", of: "gitops", set: fields{"spec.home.layer": "platform"}, field: "spec.home.layer", message: "must be the name of a layer in spec.layers: the one that Gitea is deployed in"},
	{name: "a push mirror every now and then", of: "gitops", set: fields{"spec.home.pushMirror.interval": "daily"}, field: "spec.home.pushMirror.interval", message: "must be a duration such as 8h or 30m"},
	{name: "a push mirror at every moment", of: "gitops", set: fields{"spec.home.pushMirror.interval": "9m59s"}, field: "spec.home.pushMirror.interval", message: "must be between 10m and 168h"},

	// spec.layers
	{name: "a layer in upper case", of: "gitops", set: fields{"spec.layers[1].name": "Apps"}, field: "spec.layers[1].name", message: "must be lower-case letters, digits and dashes, such as platform"},
	{name: "a layer at an absolute path", of: "gitops", set: fields{"spec.layers[1].path": "/apps"}, field: "spec.layers[1].path", message: directoryWanted},
	{name: "a layer outside of the repository", of: "gitops", set: fields{"spec.layers[1].path": "apps/../../etc"}, field: "spec.layers[1].path", message: directoryWanted},
	{name: "a layer that depends on nothing known", of: "gitops", set: fields{"spec.layers[1].dependsOn": []any{"platform"}}, field: "spec.layers", message: layerOrder},
	{name: "layers that wait for each other", of: "gitops", set: fields{"spec.layers[0].dependsOn": []any{"apps"}}, field: "spec.layers", message: layerOrder},
	{name: "a layer that waits for itself", of: "gitops", set: fields{"spec.layers[1].dependsOn": []any{"apps"}}, field: "spec.layers", message: layerOrder},
},
	nameRefused("gitops", "spec.seed.credentials.name", "a Secret"),
	nameRefused("gitops", "spec.home.credentials.name", "a Secret"),
	nameRefused("gitops", "spec.home.pushMirror.credentials.name", "a Secret"),
)
