package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HealingSpec is what may be done without a person about a sick member, and how
// patiently. A field that is not set has its default.
type HealingSpec struct {
	// Mode is Disabled, DryRun (default: say what would be done) or Enabled.
	// +optional
	// +kubebuilder:default=DryRun
	Mode HealingMode `json:"mode,omitempty"`
	// UnhealthyAfter is how long a member must have been sick, as the operator itself
	// saw it without interruption, until anything is done: from a minute to a day.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 10m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('1m') && duration(self) <= duration('24h'))",message="must be between 1m and 24h"
	UnhealthyAfter *metav1.Duration `json:"unhealthyAfter,omitempty"`
	// MaxUnhealthyPercent is the storm stop: while more of the declared members than
	// this, and more than one, are sick at once, nothing is begun. At most half: then
	// it is not the members that are sick.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	MaxUnhealthyPercent int32 `json:"maxUnhealthyPercent,omitempty"`
	// CoolDown is how long nothing is begun after a storm: from a minute to a day.
	// +optional
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 10m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('1m') && duration(self) <= duration('24h'))",message="must be between 1m and 24h"
	CoolDown *metav1.Duration `json:"coolDown,omitempty"`
	// Reboot is the first step, of a member whose kubelet still answers: the machine
	// is told to restart. Not set: once a day, and 10 minutes to be Ready again.
	// +optional
	// +kubebuilder:default={timeout: "10m", tries: 1}
	Reboot HealingStep `json:"reboot,omitempty"`
	// Power is the second step: the machine is turned off and on, or, where it can
	// only be woken, woken. Not set: twice a day, and 10 minutes to be Ready again.
	// +optional
	// +kubebuilder:default={timeout: "10m", tries: 2}
	Power HealingStep `json:"power,omitempty"`
	// Reinstall is the last step: the member leaves the cluster, and its machine is
	// installed anew under a claim. Its disk is wiped. Not set: once a day, and an
	// hour to begin.
	// +optional
	// +kubebuilder:default={timeout: "1h", tries: 1}
	Reinstall HealingStep `json:"reinstall,omitempty"`
	// MaxReinstallsPerDay bounds the reinstallations of all members together within
	// 24 hours. 0: none.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxReinstallsPerDay *int32 `json:"maxReinstallsPerDay,omitempty"`
	// MaintenanceWindows are when a step may be begun. None: at any time. A step that
	// was begun goes on to its end.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	MaintenanceWindows []MaintenanceWindow `json:"maintenanceWindows,omitempty"`
}

// HealingMode says whether repairs are made.
//
// +kubebuilder:validation:Enum=Disabled;DryRun;Enabled
type HealingMode string

// The healing modes, from the least to the most.
const (
	HealingDisabled HealingMode = "Disabled"
	HealingDryRun   HealingMode = "DryRun"
	HealingEnabled  HealingMode = "Enabled"
)

// HealingStep bounds one step of the escalation.
type HealingStep struct {
	// Timeout is how long a member may take to be Ready after the step, and of a
	// reinstallation how long its machine may take to begin: from a minute to a day.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 10m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('1m') && duration(self) <= duration('24h'))",message="must be between 1m and 24h"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Tries are how often within 24 hours the step is taken for one member. 0: never,
	// the next step is taken instead.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4
	Tries *int32 `json:"tries,omitempty"`
}

// MaintenanceWindow is a part of some days of the week. One whose end is not after
// its beginning ends on the next day.
//
// +kubebuilder:validation:XValidation:rule="self.from != self.to",message="must not be from: for whole days leave from and to at 00:00 and 24:00",fieldPath=".to"
type MaintenanceWindow struct {
	// Days on which it begins. None: every day.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=7
	Days []Weekday `json:"days,omitempty"`
	// From is the time of day at which it begins, such as 22:00.
	// +optional
	// +kubebuilder:default="00:00"
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')",message="must be a time of day from 00:00 to 23:59, such as 22:00"
	From string `json:"from,omitempty"`
	// To is the time of day at which it ends, such as 05:30; 24:00 is the end of the
	// day.
	// +optional
	// +kubebuilder:default="24:00"
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$')",message="must be a time of day from 00:00 to 24:00, such as 05:30"
	To string `json:"to,omitempty"`
	// TimeZone of the times, by its name in the IANA database, such as
	// Europe/Berlin.
	// +optional
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self != 'Local'",message="must be the name of a time zone, such as Europe/Berlin or UTC"
	TimeZone string `json:"timeZone,omitempty"`
}

// Weekday is a day of the week.
//
// +kubebuilder:validation:Enum=Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday
type Weekday string

// HealingStatus is what the healing of members has to remember of all of them.
type HealingStatus struct {
	// Storm is since when too many members are sick at once. Empty: they are not.
	// +optional
	Storm *metav1.Time `json:"storm,omitempty"`
	// StormEnded is when the last storm was over: the cool-down begins with it.
	// +optional
	StormEnded *metav1.Time `json:"stormEnded,omitempty"`
	// Sick counts the declared members that are sick.
	// +optional
	Sick int32 `json:"sick,omitempty"`
	// Repairing names the member that a step of a repair was begun for. Empty: none.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Repairing string `json:"repairing,omitempty"`
}

// ConditionHealing of a Cluster: repairs are made where they are needed. False
// names what stops all of them.
const ConditionHealing = "Healing"

// The reasons of Healing, beside Paused, which has the name of the rule.
const (
	// ReasonWatching: healing is on, and no member is sick, or none may be repaired.
	ReasonWatching = "Watching"
	// ReasonRepairing: the message names the member that is repaired, and how.
	ReasonRepairing = "Repairing"
	// ReasonHealingDryRun: it is said what would be done, and nothing is done.
	ReasonHealingDryRun = "DryRun"
	// ReasonHealingDisabled: nothing is looked at.
	ReasonHealingDisabled = "Disabled"
	// ReasonStorm: too many members are sick at once.
	ReasonStorm = "Storm"
	// ReasonCoolDown: a storm is over, and it is waited whether it comes back.
	ReasonCoolDown = "CoolDown"
)
