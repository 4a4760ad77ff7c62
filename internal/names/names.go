// Package names holds what the operator, the PXE pods and the bootstrapper must
// call by the same name: namespaces, Secrets and their keys, ports.
package names

import corev1 "k8s.io/api/core/v1"

// The namespaces.
const (
	// SystemNamespace is the release's: the operator's pod, and the Secrets that
	// only the operator reads.
	SystemNamespace = "rhizome-system"
	// DefaultPXENamespace is that of the PXE pods: the claims, the certificate that
	// they serve, and nothing else that they could read.
	DefaultPXENamespace = "rhizome-pxe"
)

// PXEDeployment names the Deployment of the PXE pods, and their service account.
const PXEDeployment = "rhizome-pxe"

// PXECommand is the command of the cluster's binary that a PXE pod runs.
const PXECommand = "pxe"

// The Secret that the founding leaves behind, in the release's namespace. It is
// written once and read by the operator alone.
const (
	FoundingSecret                       = "rhizome-founding"
	FoundingType       corev1.SecretType = "rhizome.dev/founding"
	KeyServerToken                       = "server-token" // in K10 form
	KeyAgentToken                        = "agent-token"
	KeyNodeKey                           = "node-key"
	KeyServerAuthority                   = "server-ca" // PEM, as the API server serves it at /cacerts
)

// PXECASecret is the authority of the PXE service (kubernetes.io/tls), in the
// release's namespace.
const PXECASecret = "rhizome-pxe-ca"

// ServingSecret is the certificate that the PXE pods serve, in their namespace,
// under the keys tls.crt, tls.key and KeyAuthority.
const (
	ServingSecret = "rhizome-pxe-serving"
	KeyAuthority  = "ca.crt"
)

// The Secret of a claim, in the namespace of the PXE pods.
const (
	ClaimType corev1.SecretType = "rhizome.dev/claim"

	KeyClaim       = "claim"       // JSON of provision.Claim
	KeyCredentials = "credentials" // JSON of []k3s.File; absent until they are made
	claimPrefix    = "claim-"
)

// ClaimSecret names the Secret of a Node's claim.
func ClaimSecret(node string) string { return claimPrefix + node }

// The TCP ports of a PXE pod on its host's network, beside those of DHCP and TFTP.
const (
	HTTPPort    = 7480
	HTTPSPort   = 7443
	HealthPort  = 7481 // /healthz and /readyz, on the host's loopback only
	MetricsPort = 7482 // /metrics
)

// Where a PXE pod finds things on its host.
const (
	MediaDir = "/var/lib/rhizome/media"
	ImageDir = "/var/lib/rancher/k3s/agent/images"
)

// LeaseName names the Lease by which replicas of the operator agree on who acts.
const LeaseName = "rhizome-operator"
