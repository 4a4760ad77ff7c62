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
// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
type SHA256 string

// URL is an absolute http, https or file URL. A file URL is only understood by
// the bootstrapper, on the machine that it runs on.
//
// +kubebuilder:validation:Pattern=`^(https?|file)://.+`
// +kubebuilder:validation:MaxLength=2048
type URL string

// Address is an IPv4 address in dotted notation, without a prefix length.
//
// +kubebuilder:validation:Format=ipv4
// +kubebuilder:validation:MaxLength=15
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
// +kubebuilder:validation:Pattern=`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`
type MAC string

// File is something to download: where it is and what it must be.
type File struct {
	// URL says where the file is.
	URL URL `json:"url"`
	// SHA256 is the digest of the file as it is downloaded. A file that differs is
	// never used.
	SHA256 SHA256 `json:"sha256"`
}

// SecretReference names a Secret in the operator's namespace.
type SecretReference struct {
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// ConfigMapReference names a ConfigMap in the operator's namespace.
type ConfigMapReference struct {
	// Name of the ConfigMap.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// The condition types and reasons that more than one kind uses.
const (
	// ConditionReady summarises a resource: True when all that its spec asks for
	// is so.
	ConditionReady = "Ready"
)
