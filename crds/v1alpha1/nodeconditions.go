package v1alpha1

// The condition types of a Node, beside Ready.
const (
	// ConditionJoined: the machine became the core Node of its name, which has the
	// declared address.
	ConditionJoined = "Joined"
	// ConditionAdmitted: the machine may be installed now. False names the rule that
	// holds it; absent on a member that nothing is to be done to.
	ConditionAdmitted = "Admitted"
	// ConditionAdopted: the config of the server that founded the cluster was
	// rewritten, so that it founds no second one. Only on that node.
	ConditionAdopted = "Adopted"
	// ConditionRemoval is there while the machine is to leave the cluster, for good
	// or to be reinstalled. True: it is being done; False names the rule that holds
	// it.
	ConditionRemoval = "Removal"
	// ConditionPower is what came of turning the machine on for its installation. Only
	// where the operator does that itself: by Redfish or a webhook.
	ConditionPower = "Power"
)

// The reasons of a Node's conditions.
const (
	// ReasonMatched: the core Node has the declared name and address.
	ReasonMatched = "Matched"
	// ReasonNotJoined: there is no core Node of this name.
	ReasonNotJoined = "NotJoined"
	// ReasonAddressMismatch: the core Node of this name has another address.
	ReasonAddressMismatch = "AddressMismatch"
	// ReasonNameMismatch: a core Node with the declared address has another name.
	ReasonNameMismatch = "NameMismatch"
	// ReasonMemberReady: the core Node is Ready.
	ReasonMemberReady = "MemberReady"
	// ReasonMemberNotReady: the core Node says that it is not Ready.
	ReasonMemberNotReady = "MemberNotReady"
	// ReasonMemberUnknown: nothing is known of the core Node's readiness.
	ReasonMemberUnknown = "MemberUnknown"
	// ReasonNeverReady: the machine joined by its last installation and was not Ready
	// in time. A person has to look.
	ReasonNeverReady = "NeverReady"
)

// The reasons of Admitted: the rules that hold an installation, and what lifts
// each.
const (
	// ReasonAdmitted: a claim may be opened, or is.
	ReasonAdmitted = "Admitted"
	// ReasonInvalid: the Node, its Cluster or its OperatingSystem breaks a rule that
	// the message names.
	ReasonInvalid = "Invalid"
	// ReasonPaused: the annotation rhizome.dev/paused is on the Node or the Cluster.
	ReasonPaused = "Paused"
	// ReasonControlPlaneOrder: control-plane nodes are installed one after another,
	// each once the one before votes in etcd.
	ReasonControlPlaneOrder = "ControlPlaneOrder"
	// ReasonConcurrencyCap: spec.growth.maxConcurrent machines are being installed.
	ReasonConcurrencyCap = "ConcurrencyCap"
	// ReasonRemovalRuns: a machine is being taken out of the cluster.
	ReasonRemovalRuns = "RemovalRuns"
	// ReasonRepairRuns: a member is being repaired.
	ReasonRepairRuns = "RepairRuns"
	// ReasonPXENotReady: no PXE pod is ready to serve the machine.
	ReasonPXENotReady = "PXENotReady"
	// ReasonAttemptsExhausted: as many installations failed as may; a person clears
	// it by the annotation rhizome.dev/retry.
	ReasonAttemptsExhausted = "AttemptsExhausted"
	// ReasonBackOff: the last attempt failed, or its claim expired, and the next one
	// waits a while.
	ReasonBackOff = "BackOff"
	// ReasonNoCredentials: the operator cannot make what the machine joins with,
	// since it lacks what the founding of the cluster leaves behind.
	ReasonNoCredentials = "NoCredentials"
	// ReasonMemberExists: a core Node of this name is there that is not this machine.
	ReasonMemberExists = "MemberExists"
	// ReasonMemberRemains: the machine was a member, and its core Node went without its
	// being taken out of the cluster: it may run on, and etcd may count it.
	ReasonMemberRemains = "MemberRemains"
)

// The reasons of Removal: what is being done, and the rules that hold it.
const (
	// ReasonCordoning, ReasonDraining, ReasonLeavingEtcd and ReasonDeletingMember are
	// the steps, in their order.
	ReasonCordoning      = "Cordoning"
	ReasonDraining       = "Draining"
	ReasonLeavingEtcd    = "LeavingEtcd"
	ReasonDeletingMember = "DeletingMember"
	// ReasonMassRemoval: several members are to be removed at once; confirmed one by
	// one with the annotation rhizome.dev/removal.
	ReasonMassRemoval = "MassRemoval"
	// ReasonSettling: the deletion is so new that others may still come with it.
	ReasonSettling = "Settling"
	// ReasonRebooting: the member is out of the cluster, and its machine is to boot
	// the installer.
	ReasonRebooting = "Rebooting"
	// ReasonOneAtATime: another removal, reinstallation or repair runs.
	ReasonOneAtATime = "OneAtATime"
	// ReasonLastControlPlane: it is the last control-plane member.
	ReasonLastControlPlane = "LastControlPlane"
	// ReasonQuorum: without it, etcd would have no quorum.
	ReasonQuorum = "Quorum"
	// ReasonVotersUnknown: who votes in etcd is not known well enough.
	ReasonVotersUnknown = "VotersUnknown"
	// ReasonInstallationRuns: a control-plane node is being installed.
	ReasonInstallationRuns = "InstallationRuns"
	// ReasonNoCluster: there is no Cluster to say what may be done.
	ReasonNoCluster = "NoCluster"
)

// The reasons of Adopted.
const (
	// ReasonConfigRewritten: the config founds no cluster any more.
	ReasonConfigRewritten = "ConfigRewritten"
	// ReasonAdopting: it is being rewritten.
	ReasonAdopting = "Adopting"
	// ReasonAdoptionFailed: it could not be rewritten; the message says why.
	ReasonAdoptionFailed = "AdoptionFailed"
)

// The reasons of Power. True: the machine was turned on for the claim that is open.
const (
	// ReasonTurnedOn: it was told to boot from the network, and is seen to be on.
	ReasonTurnedOn = "TurnedOn"
	// ReasonToldOnly: it was told to turn on, and nothing proves that it did: the
	// webhook does not know the state of power.
	ReasonToldOnly = "ToldOnly"
	// ReasonTurningOn: it is being done.
	ReasonTurningOn = "TurningOn"
	// ReasonNoClaim: no claim is open that would allow to restart the machine.
	ReasonNoClaim = "NoClaim"
	// ReasonPowerUnreachable: the controller does not answer, or not in time.
	ReasonPowerUnreachable = "PowerUnreachable"
	// ReasonPowerCertificate: its certificate is not the one that is to be trusted.
	ReasonPowerCertificate = "PowerCertificate"
	// ReasonPowerCredentials: the Secret is missing or incomplete, or the controller
	// refuses the user name and password in it. It is not tried again until the Secret
	// or the Node changes: controllers lock accounts.
	ReasonPowerCredentials = "PowerCredentials"
	// ReasonPowerRefused: the controller refuses what it is asked.
	ReasonPowerRefused = "PowerRefused"
	// ReasonPowerUnsupported: the controller cannot do what it is asked, or what is
	// declared does not fit it.
	ReasonPowerUnsupported = "PowerUnsupported"
	// ReasonPowerUnproven: it accepted, and the machine was not seen to follow.
	ReasonPowerUnproven = "PowerUnproven"
)
