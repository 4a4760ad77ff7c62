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

// AnnotationChecksums of an OperatingSystem names where the publisher of its media
// says what they must be: https URLs of SHA256SUMS, SHA512SUMS or CHECKSUM files, with
// blanks between several. 'bootstrapper media lock' checks what it pins against them;
// nothing else looks at it.
const AnnotationChecksums = "rhizome.dev/checksums"

// OperatingSystemSpec describes an operating system.
//
// +kubebuilder:validation:XValidation:rule="self.format == 'Image' || self.media.all(m, !has(m.compression))",message="compression is only of a disk image: remove it, or set format to Image",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Image' || self.media.all(m, !has(m.url) || !m.url.matches('[.](vmdk|vdi|vhdx?|iso|tar)([.](gz|xz|zst))?$'))",message="must be disk images, raw or qcow2, with format Image: convert others with 'qemu-img convert -c -O qcow2'",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Image' || self.media.all(m, has(m.url) && !has(m.kernel) && !has(m.initrd) && !has(m.packages))",message="must each have a url and nothing of an installer (files, kernel, initrd, packages) with format Image",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Autoinstall' || self.media.all(m, has(m.url) && !has(m.packages))",message="must each have the url of the live server's ISO and no packages with format Autoinstall",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Preseed' || self.media.all(m, has(m.files))",message="must each have the files of the Debian Installer for the network (linux and initrd.gz) with format Preseed: an ISO has another installer",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Preseed' || self.media.all(m, has(m.packages))",message="must each name a mirror of Debian in packages with format Preseed, such as http://mirror.example.org/debian",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format != 'Kickstart' || self.media.all(m, has(m.url) || has(m.packages))",message="must each have the url of an ISO with packages, or files and the URL of packages, with format Kickstart",fieldPath=".media"
// +kubebuilder:validation:XValidation:rule="self.format == 'Image' || self.media.all(m, !has(m.url) || m.url.matches('[.]iso$'))",message="must be an ISO with this format: its name ends in .iso",fieldPath=".media"
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

// Medium is the installation medium of one architecture: a disk image or an ISO by
// its url, or the single files of an installer.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.files)",message="must have either url or files"
// +kubebuilder:validation:XValidation:rule="has(self.url) || !has(self.sha256)",message="sha256 is of the file at url: put those of files beside them"
// +kubebuilder:validation:XValidation:rule="!has(self.files) || (self.files.exists(f, f.path == (has(self.kernel) ? self.kernel : 'linux')) || self.files.exists(f, f.path == (has(self.kernel) ? self.kernel : 'images/pxeboot/vmlinuz')))",message="must have the kernel among files: name its path in kernel",fieldPath=".files"
// +kubebuilder:validation:XValidation:rule="!has(self.files) || (self.files.exists(f, f.path == (has(self.initrd) ? self.initrd : 'initrd.gz')) || self.files.exists(f, f.path == (has(self.initrd) ? self.initrd : 'images/pxeboot/initrd.img')))",message="must have the initial ramdisk among files: name its path in initrd",fieldPath=".files"
type Medium struct {
	// Architecture of the medium.
	Architecture Architecture `json:"architecture"`
	File         `json:",inline"`
	// Compression of a disk image (format Image) as a whole; that of clusters within a
	// qcow2 file is its own. Empty: by the ending of the URL's path (.gz, .xz, .zst;
	// anything else is not compressed).
	// +optional
	Compression Compression `json:"compression,omitempty"`
	// Files of an installer that is no ISO, which are served to the machine as one
	// tree.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Files []TreeFile `json:"files,omitempty"`
	// Kernel is the path of the installer's kernel in the ISO or among files. Empty:
	// where the distribution has it (Kickstart images/pxeboot/vmlinuz, Preseed linux,
	// Autoinstall casper/vmlinuz).
	// +optional
	Kernel TreePath `json:"kernel,omitempty"`
	// Initrd is the path of the installer's initial ramdisk. Empty: where the
	// distribution has it (images/pxeboot/initrd.img, initrd.gz, casper/initrd).
	// +optional
	Initrd TreePath `json:"initrd,omitempty"`
	// Packages is where the installer fetches packages, which it verifies by their
	// signatures: with Kickstart an installation tree (empty: the ISO), with Preseed a
	// mirror of Debian, which it must have.
	// +optional
	Packages URL `json:"packages,omitempty"`
}

// TreePath is the path of a file in an ISO or among files, such as
// images/pxeboot/vmlinuz.
//
// +kubebuilder:validation:MaxLength=255
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$')",message="must be a path such as images/pxeboot/vmlinuz: letters, digits, dots, dashes and underscores between single slashes, no part beginning with a dot"
type TreePath string

// TreeFile is one file of an installer.
//
// +kubebuilder:validation:XValidation:rule="has(self.url)",message="must have a url"
type TreeFile struct {
	// Path that the machine asks for.
	Path TreePath `json:"path"`
	File `json:",inline"`
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
