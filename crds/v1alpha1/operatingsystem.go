package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// OperatingSystem is a Linux distribution that machines are installed with:
// its media and the format of its init config.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ros
// +kubebuilder:printcolumn:name="Format",type=string,JSONPath=`.spec.format`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type OperatingSystem struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   OperatingSystemSpec   `json:"spec"`
	Status OperatingSystemStatus `json:"status,omitempty"`
}

// OperatingSystemList is a list of OperatingSystems.
//
// +kubebuilder:object:root=true
type OperatingSystemList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []OperatingSystem `json:"items"`
}

// Format is the format of an operating system's init config.
//
// +kubebuilder:validation:Enum=Image;Kickstart;Preseed;Autoinstall
type Format string

// The formats.
const (
	// FormatImage is a cloud image, streamed to disk by our installer and
	// configured by cloud-init.
	FormatImage Format = "Image"
	// FormatKickstart is Anaconda's: Fedora and the Red Hat family.
	FormatKickstart Format = "Kickstart"
	// FormatPreseed is the Debian Installer's.
	FormatPreseed Format = "Preseed"
	// FormatAutoinstall is Ubuntu's Subiquity.
	FormatAutoinstall Format = "Autoinstall"
)

// OperatingSystemSpec describes an operating system.
//
// +kubebuilder:validation:XValidation:rule="self.format == 'Image' || self.media.all(m, !has(m.compression))",message="compression is only of a disk image: remove it, or set format to Image",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Image' || self.media.all(m, !m.url.matches('[.](qcow2|vmdk|vdi|vhdx?|iso|tar)([.](gz|xz|zst))?$'))",message="must be raw disk images with format Image: convert others with 'qemu-img convert -O raw', and compress the result",fieldPath=".media"
type OperatingSystemSpec struct {
	// Format of the init config, and with it of the media.
	Format Format `json:"format"`
	// Media are the installation media, one for each architecture.
	// +listType=map
	// +listMapKey=architecture
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Media []Medium `json:"media"`
	// KernelArguments are added to the installer's kernel command line.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[A-Za-z0-9._,:/=+@%~^*!-]+$')",message="must be one kernel argument such as console=ttyS0,115200n8: no spaces, quotes, dollar signs or semicolons, which boot loaders read as their own"
	// +kubebuilder:validation:items:XValidation:rule="!self.startsWith('rhizome.')",message="must not begin with rhizome., which the installer is told by"
	KernelArguments []string `json:"kernelArguments,omitempty"`
	// Template names a ConfigMap whose key "template" replaces the built-in
	// template of the init config.
	// +optional
	Template *ConfigMapReference `json:"template,omitempty"`
}

// Compression of a disk image.
//
// +kubebuilder:validation:Enum=None;Gzip;XZ;Zstd
type Compression string

// The compressions.
const (
	CompressionNone Compression = "None"
	CompressionGzip Compression = "Gzip"
	CompressionXZ   Compression = "XZ"
	CompressionZstd Compression = "Zstd"
)

// Medium is the installation medium of one architecture.
type Medium struct {
	// Architecture of the medium.
	Architecture Architecture `json:"architecture"`
	File         `json:",inline"`
	// Compression of a raw disk image (format Image). Empty: by the ending of
	// the URL's path (.gz, .xz, .zst; anything else is not compressed).
	// +optional
	Compression Compression `json:"compression,omitempty"`
}

// OperatingSystemStatus is what is so.
type OperatingSystemStatus struct {
	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions of the operating system.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
