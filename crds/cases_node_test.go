package crds_test

import (
	"slices"
	"strings"
)

const (
	deviceWanted   = "must be a device such as /dev/sda or /dev/disk/by-id/ata-..."
	serialWanted   = "must be printable, without spaces at its ends, as 'lsblk -o NAME,SERIAL' prints it"
	labelKey       = "must have label keys such as example.org/rack or rack"
	labelValue     = "must be letters, digits, dashes, underscores and dots, and begin and end with a letter or digit"
	labelDomain    = "must not use the domains kubernetes.io and k8s.io, but for node.kubernetes.io/, kubelet.kubernetes.io/, topology.kubernetes.io/region and topology.kubernetes.io/zone: a kubelet that is given others does not start"
	taintKey       = "must be a taint key such as example.org/dedicated or dedicated"
	endpointWanted = "must be the https URL of a board management controller, such as https://192.168.1.20, without user name and password"
	oneWay         = "must have exactly one of wakeOnLAN, redfish and webhook"
	webhookWanted  = "must be an https URL such as https://plugs.example.org/power, without user name, password and query"
	hostName       = "metadata.name must be a host name: lower-case letters, digits and dashes, 63 characters at most"
)

const (
	withBMC     = "node with a board management controller"
	withWebhook = "node on a smart plug"
)

var nodeRefused = slices.Concat([]bad{
	{name: "a name with a dot", of: "node", set: fields{"metadata.name": "alpha.home"}, field: "<nil>", message: hostName},
	{name: "a name that is too long", of: "node", set: fields{"metadata.name": strings.Repeat("a", 64)}, field: "<nil>", message: hostName},

	{name: "another role later", of: "node", update: true, set: fields{"spec.role": "Worker"}, field: "spec.role", message: "is immutable: remove the Node and declare it again"},
	{name: "another MAC later", of: "node", update: true, set: fields{"spec.mac": "52:54:00:00:00:01"}, field: "spec.mac", message: "is immutable: another machine is another Node"},
	{name: "another address later", of: "node", update: true, set: fields{"spec.address": "192.168.1.99"}, field: "spec.address", message: "is immutable: remove the Node and declare it again"},
	{name: "another architecture later", of: "node", update: true, set: fields{"spec.architecture": "arm64"}, field: "spec.architecture", message: "is immutable: remove the Node and declare it again"},

	// spec.disk
	{name: "a disk by its bare name", of: "node", set: fields{"spec.disk.path": "sda"}, field: "spec.disk.path", message: deviceWanted},
	{name: "a disk outside of /dev", of: "node", set: fields{"spec.disk.path": "/dev/../etc/passwd"}, field: "spec.disk.path", message: deviceWanted},
	{name: "a serial with a trailing space", of: "node", set: fields{"spec.disk.serial": "S64DNL0T "}, field: "spec.disk.serial", message: serialWanted},
	{name: "a WWN with a space", of: "node", set: fields{"spec.disk.wwn": "5 000c500"}, field: "spec.disk.wwn",
		message: "must be a World Wide Name such as 0x5000c500a1b2c3d4 or eui.0025385b71b00001, as 'lsblk -o NAME,WWN' prints it"},
	{name: "the least size above the greatest", of: "node", set: fields{"spec.disk.minSize": "3T"}, field: "spec.disk.minSize", message: "must not be greater than maxSize"},
	{name: "the least size above the greatest, in other units", of: "node", set: fields{"spec.disk.minSize": "1Gi", "spec.disk.maxSize": int64(1000000000)}, field: "spec.disk.minSize", message: "must not be greater than maxSize"},
	{name: "a least size of nothing", of: "node", set: fields{"spec.disk.minSize": int64(0)}, field: "spec.disk.minSize", message: "must be greater than zero, such as 100Gi"},
	{name: "a greatest size of nothing", of: "node", set: fields{"spec.disk.minSize": remove{}, "spec.disk.maxSize": "-1"}, field: "spec.disk.maxSize", message: "must be greater than zero, such as 500Gi"},

	// spec.power
	{name: "two ways to be turned on", of: withBMC, set: fields{"spec.power.wakeOnLAN": map[string]any{}}, field: "spec.power", message: oneWay},
	{name: "a controller and a webhook", of: withBMC, set: fields{"spec.power.webhook": map[string]any{"url": "https://plugs.example.org", "credentials": map[string]any{"name": "plugs"}}}, field: "spec.power", message: oneWay},
	{name: "a webhook over plain HTTP", of: withWebhook, set: fields{"spec.power.webhook.url": "http://plugs.example.org/power"}, field: "spec.power.webhook.url", message: webhookWanted},
	{name: "a webhook with a token in its query", of: withWebhook, set: fields{"spec.power.webhook.url": "https://plugs.example.org/power?token=x"}, field: "spec.power.webhook.url", message: webhookWanted},
	{name: "a webhook with a password", of: withWebhook, set: fields{"spec.power.webhook.url": "https://me:secret@plugs.example.org/power"}, field: "spec.power.webhook.url", message: webhookWanted},
	{name: "no way to be turned on", of: "node", set: fields{"spec.power": map[string]any{}}, field: "spec.power", message: oneWay},
	{name: "a controller over plain HTTP", of: withBMC, set: fields{"spec.power.redfish.endpoint": "http://192.168.1.21"}, field: "spec.power.redfish.endpoint", message: endpointWanted},
	{name: "a controller's password in the open", of: withBMC, set: fields{"spec.power.redfish.endpoint": "https://root:calvin@192.168.1.21"}, field: "spec.power.redfish.endpoint", message: endpointWanted},
	{name: "a system that is a path", of: withBMC, set: fields{"spec.power.redfish.systemID": "../Managers/1"}, field: "spec.power.redfish.systemID",
		message: "must be the Id of a member of the controller's Systems, such as 1 or System.Embedded.1"},

	// spec.labels
	{name: "a label's key with a space", of: "node", set: fields{"spec.labels": map[string]any{"my rack": "a1"}}, field: "spec.labels", message: labelKey},
	{name: "a label's key with an empty domain", of: "node", set: fields{"spec.labels": map[string]any{"/rack": "a1"}}, field: "spec.labels", message: labelKey},
	{name: "a label's value with a space", of: "node", set: fields{"spec.labels": map[string]any{"rack": "a 1"}}, field: "spec.labels[rack]", message: labelValue},
	{name: "a label's value that ends in a dash", of: "node", set: fields{"spec.labels": map[string]any{"rack": "a-"}}, field: "spec.labels[rack]", message: labelValue},
	{name: "a role as a label", of: "node", set: fields{"spec.labels": map[string]any{"node-role.kubernetes.io/storage": "true"}}, field: "spec.labels", message: labelDomain},
	{name: "a label of Kubernetes' own", of: "node", set: fields{"spec.labels": map[string]any{"k8s.io/rack": "a1"}}, field: "spec.labels", message: labelDomain},

	// spec.taints
	{name: "a taint's key with a space", of: "node", set: fields{"spec.taints[0].key": "my taint"}, field: "spec.taints[0].key", message: taintKey},
	{name: "a taint's value with a slash", of: "node", set: fields{"spec.taints[0].value": "a/b"}, field: "spec.taints[0].value", message: labelValue},
	{name: "a taint twice", of: "node", set: fields{"spec.taints[1].effect": "NoSchedule"}, field: "spec.taints", message: "must hold each key and effect once"},
},
	addressRefused("node", "spec.address"),
	macRefused("node", "spec.mac"),
	macRefused("node", "spec.power.wakeOnLAN.mac"),
	digestRefused(withBMC, "spec.power.redfish.fingerprint"),
	nameRefused(withBMC, "spec.power.redfish.credentials.name", "a Secret"),
	digestRefused(withWebhook, "spec.power.webhook.fingerprint"),
	nameRefused(withWebhook, "spec.power.webhook.credentials.name", "a Secret"),
	nameRefused("node", "spec.operatingSystem", "an OperatingSystem"),
)
