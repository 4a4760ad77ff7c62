package v1alpha1

// Architecture is a processor architecture by its Go and container name.
//
// +kubebuilder:validation:Enum=amd64;arm64
type Architecture string

// The architectures that Rhizome installs.
const (
	AMD64 Architecture = "amd64"
	ARM64 Architecture = "arm64"
)

// SHA256 is a SHA-256 digest as 64 lower-case hexadecimal digits.
//
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9a-f]{64}$')",message="must be a SHA-256 digest: 64 lower-case hexadecimal digits, as sha256sum prints them"
type SHA256 string

// URL is an absolute http, https or file URL of a file. A file URL is only
// understood by the bootstrapper, on the machine that it runs on. It holds no
// credentials: whoever may read the resource may read them too.
//
// +kubebuilder:validation:MaxLength=2048
// +kubebuilder:validation:XValidation:rule=`self.matches(r"^(https?://[A-Za-z0-9.:@_\[\]-]+/|file:///)([A-Za-z0-9._~:/?#!$&()*+,;=%@\[\]-]*)$") && isURL(self)`,message="must be an absolute http, https or file URL, such as https://example.org/debian.raw.xz or file:///srv/debian.raw.xz"
// +kubebuilder:validation:XValidation:rule=`!self.matches("^[a-z]+://[^/]*@")`,message="must not hold a user name or password: whoever may read this resource may read them"
// +kubebuilder:validation:XValidation:rule=`self.matches("^[a-z]+://[^?#]*/[^/?#]+([?#]|$)") || !self.matches("^(https?|file)://")`,message="must name a file, not a directory: the path must not end with a slash"
type URL string

// Address is an IPv4 address in dotted notation, without a prefix length. It is
// a machine's: not loopback, multicast, link-local or broadcast.
//
// +kubebuilder:validation:MaxLength=15
// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4",message="must be an IPv4 address such as 192.168.1.10, without a prefix length"
// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip(self).isGlobalUnicast()",message="must be the address of one machine: not 0.0.0.0, loopback, link-local, multicast or broadcast"
type Address string

// CIDR is an IPv4 network in the form 192.168.1.0/24.
//
// +kubebuilder:validation:MaxLength=18
// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self).masked() == cidr(self)",message="must be an IPv4 network such as 192.168.1.0/24, with no host bits set"
type CIDR string

// MAC is a hardware address in lower case with colons, such as
// 52:54:00:12:34:56: one spelling, so that two resources cannot name the same
// machine in two ways.
//
// +kubebuilder:validation:MaxLength=17
// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9a-f]{2}(:[0-9a-f]{2}){5}$')",message="must be a MAC address in lower case with colons, such as 52:54:00:12:34:56"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9a-f][13579bdf]:')",message="must be the MAC address of one machine: this one is a multicast address (the second digit is odd)"
// +kubebuilder:validation:XValidation:rule="self != '00:00:00:00:00:00'",message="must be the MAC address of a machine: this one is all zeros"
type MAC string

// File is something to download: where it is and what it must be.
type File struct {
	// URL says where the file is.
	// +optional
	URL URL `json:"url,omitempty"`
	// SHA256 is the digest of the file as it is downloaded. A file that differs is
	// never used, and one whose digest is not known is not either: 'bootstrapper media
	// lock' fills it in.
	// +optional
	SHA256 SHA256 `json:"sha256,omitempty"`
}

// SecretReference names a Secret in the operator's namespace.
type SecretReference struct {
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be the name of a Secret: lower-case letters, digits, dashes and dots"
	Name string `json:"name"`
}

// ConfigMapReference names a ConfigMap in the operator's namespace.
type ConfigMapReference struct {
	// Name of the ConfigMap.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be the name of a ConfigMap: lower-case letters, digits, dashes and dots"
	Name string `json:"name"`
}

// The condition types and reasons that more than one kind uses.
const (
	// ConditionReady summarises a resource: True when all that its spec asks for
	// is so.
	ConditionReady = "Ready"
)
