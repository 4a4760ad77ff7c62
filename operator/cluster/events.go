package cluster

// The reasons of the events on a Cluster, beside Discovered.
const (
	eventPXEStarted     = "PXEStarted"
	eventPXEStopped     = "PXEStopped"
	eventPXECertificate = "PXECertificateMade"
	eventPXEAuthority   = "PXEAuthorityMade"
	eventPXEPodGone     = "PXEPodGone"
)
