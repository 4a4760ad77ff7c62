package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeHealingSpec is what may be done without a person about one machine.
type NodeHealingSpec struct {
	// Mode is Disabled, DryRun or Enabled; of it and the Cluster's the lesser holds.
	// Empty: the Cluster's.
	// +optional
	Mode HealingMode `json:"mode,omitempty"`
	// Storage says what a reinstallation would destroy. Auto (default): as far as it
	// can be seen, and refused where it cannot; Disposable: nothing that is not
	// elsewhere too; Keep: something, so that the machine is never reinstalled without
	// a person.
	// +optional
	// +kubebuilder:default=Auto
	Storage StoragePolicy `json:"storage,omitempty"`
}

// StoragePolicy says what is on the disks of a machine.
//
// +kubebuilder:validation:Enum=Auto;Disposable;Keep
type StoragePolicy string

// The storage policies.
const (
	StorageAuto       StoragePolicy = "Auto"
	StorageDisposable StoragePolicy = "Disposable"
	StorageKeep       StoragePolicy = "Keep"
)

// AnnotationPoweredOff on a Node is how a person says that its machine is off and
// stays off until it is a member again: any new value, such as a date, says so
// anew. Its pods may then run elsewhere, with their volumes. It is the only proof
// for a machine that can only be woken: say it when you have pulled the plug.
const AnnotationPoweredOff = "rhizome.dev/powered-off"

// AnnotationFenced is on a core Node that the operator tainted out of service, and
// says when and on which proof.
const AnnotationFenced = "rhizome.dev/fenced"

// RepairAction is a step of the escalation.
//
// +kubebuilder:validation:Enum=Reboot;PowerCycle;Wake;Reinstall;Quarantine
type RepairAction string

// The actions, from the least to the most.
const (
	// RepairReboot restarts the machine through its kubelet.
	RepairReboot RepairAction = "Reboot"
	// RepairPowerCycle turns the machine off, sees that it is, and turns it on.
	RepairPowerCycle RepairAction = "PowerCycle"
	// RepairWake sends magic packets; it stands in for a power-cycle where a machine
	// can only be woken.
	RepairWake RepairAction = "Wake"
	// RepairReinstall has the machine leave the cluster and installs it anew.
	RepairReinstall RepairAction = "Reinstall"
	// RepairQuarantine gives up until a person clears it.
	RepairQuarantine RepairAction = "Quarantine"
)

// RepairStatus is the repair of a member. It is written down before anything is
// done, and what came of it after.
type RepairStatus struct {
	// Action that was begun. Empty: none; nothing is being done to the machine.
	// +optional
	Action RepairAction `json:"action,omitempty"`
	// Try counts this action within a day, from 1.
	// +optional
	Try int32 `json:"try,omitempty"`
	// Rule is what called for it, such as NotReady.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Rule string `json:"rule,omitempty"`
	// Reason is that in words.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// SickSince is since when the operator saw the member sick when it began.
	// +optional
	SickSince *metav1.Time `json:"sickSince,omitempty"`
	// Intended is when the action was written down, and Acted when it had been done.
	// Without Acted it is not known whether it was.
	// +optional
	Intended *metav1.Time `json:"intended,omitempty"`
	// +optional
	Acted *metav1.Time `json:"acted,omitempty"`
	// Message is what came of it so far.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Reinstall asks for a new installation, as the annotation rhizome.dev/reinstall
	// does for a person; it is honoured once. Empty: none is asked for.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reinstall string `json:"reinstall,omitempty"`
	// Snapshot is the snapshot of etcd that was made before.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Snapshot string `json:"snapshot,omitempty"`
	// Off is the proof that the machine was off after it fell sick. Empty: there is
	// none.
	// +optional
	Off *OffProof `json:"off,omitempty"`
	// Quarantined is since when nothing is done until a person sets the annotation
	// rhizome.dev/retry to a new value. Empty: it is not so.
	// +optional
	Quarantined *metav1.Time `json:"quarantined,omitempty"`
	// Cleared is when a person last cleared the member: what was done before counts no
	// more.
	// +optional
	Cleared *metav1.Time `json:"cleared,omitempty"`
	// Honoured are the values of the annotations that were acted on, by the last part
	// of their name: retry, powered-off.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Honoured map[string]string `json:"honoured,omitempty"`
}

// Wakes says whether the machine is to be sent magic packets. Nil says no.
func (r *RepairStatus) Wakes() bool {
	return r != nil && r.Action == RepairWake && r.Acted != nil
}

// OffProof is a proof that a machine was off.
type OffProof struct {
	// By is who proved it: Board (its management controller said so), Person, or
	// Installer (it runs our installer, so that the former system does not run).
	// +kubebuilder:validation:Enum=Board;Person;Installer
	By string `json:"by"`
	// At is when.
	At metav1.Time `json:"at"`
}

// The provers of OffProof.
const (
	OffByBoard     = "Board"
	OffByPerson    = "Person"
	OffByInstaller = "Installer"
)

// RepairRecord is an action that is over.
type RepairRecord struct {
	// At is when it was begun.
	At metav1.Time `json:"at"`
	// Ended is when its result was known.
	Ended metav1.Time `json:"ended"`
	// Action that was taken.
	Action RepairAction `json:"action"`
	// Rule is what called for it, such as NotReady.
	// +kubebuilder:validation:MaxLength=64
	Rule string `json:"rule"`
	// Result is Healed, TimedOut or Failed, or GivenUp of a quarantine.
	// +kubebuilder:validation:Enum=Healed;TimedOut;Failed;GivenUp
	Result RepairResult `json:"result"`
	// Message says more.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Disk is what a reinstallation was to write on, as the Node declares it.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Disk string `json:"disk,omitempty"`
}

// RepairResult is how an action ended.
type RepairResult string

// The results.
const (
	// ResultHealed: the member was Ready in time.
	ResultHealed RepairResult = "Healed"
	// ResultTimedOut: it was not.
	ResultTimedOut RepairResult = "TimedOut"
	// ResultFailed: the action could not be done.
	ResultFailed RepairResult = "Failed"
	// ResultGivenUp: a person has to look.
	ResultGivenUp RepairResult = "GivenUp"
)

// MaxRepairs is the bound of status.repairs.
const MaxRepairs = 16

// Reach is what the PXE pod of another member finds when it tries to reach a
// member that is not Ready.
type Reach struct {
	// From is the member that the pod runs on.
	// +kubebuilder:validation:MaxLength=253
	From string `json:"from"`
	// At is when it last tried, to a minute while the answer stays the same.
	At metav1.Time `json:"at"`
	// Answer is Kubelet (it answers on its port), Machine (something answers, the
	// kubelet does not) or Nothing.
	// +kubebuilder:validation:Enum=Kubelet;Machine;Nothing
	Answer ReachAnswer `json:"answer"`
	// Message says what exactly.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`
}

// ReachAnswer is who answers.
type ReachAnswer string

// The answers.
const (
	AnswerKubelet ReachAnswer = "Kubelet"
	AnswerMachine ReachAnswer = "Machine"
	AnswerNothing ReachAnswer = "Nothing"
)

// The condition types of a Node that healing writes.
const (
	// ConditionHealthy: False while the member is sick, whatever is done about it, and
	// True when it was and is no more. Absent on one that never was.
	ConditionHealthy = "Healthy"
	// ConditionRepair is there while there is something to say about a repair. True:
	// it is being made; False names the rule that refuses it.
	ConditionRepair = "Repair"
)

// ReasonQuarantined of Admitted: healing gave the machine up; a person clears it by
// the annotation rhizome.dev/retry. The rule that refuses its repair has the same
// name.
const ReasonQuarantined = "Quarantined"

// The reasons of Healthy, which are the rules that call for a repair.
const (
	// ReasonSickNotReady: the core Node says of itself that it is not Ready.
	ReasonSickNotReady = "NotReady"
	// ReasonSickSilent: the core Node's kubelet says nothing.
	ReasonSickSilent = "Silent"
	// ReasonSickMissing: the core Node of a member is gone.
	ReasonSickMissing = "Missing"
	// ReasonSickVoteLost: a server does not vote in etcd.
	ReasonSickVoteLost = "VoteLost"
	// ReasonWell: nothing of it is so.
	ReasonWell = "Well"
)
