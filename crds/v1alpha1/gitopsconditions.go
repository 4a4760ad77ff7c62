package v1alpha1

// The reasons of SourceReady and Switched. docs/concepts/source-of-truth.md says of
// each what is observed, what is done and why.
const (
	// ReasonSeedActive: the layers follow the seed, and it is sound.
	ReasonSeedActive = "SeedActive"
	// ReasonHomeActive: the layers follow the home, and it is sound.
	ReasonHomeActive = "HomeActive"

	// ReasonSeedUnreachable: the seed's branch cannot be read.
	ReasonSeedUnreachable = "SeedUnreachable"
	// ReasonSeedBehind: the seed's branch lacks what was synced already.
	ReasonSeedBehind = "SeedBehind"
	// ReasonSeedLacksDirectories: the seed's branch has no directory for a layer.
	ReasonSeedLacksDirectories = "SeedLacksDirectories"

	// ReasonNoHome: spec.home is not set.
	ReasonNoHome = "NoHome"
	// ReasonHomeRemoved: spec.home was removed while the layers follow it.
	ReasonHomeRemoved = "HomeRemoved"
	// ReasonPinnedToSeed: spec.source is Seed.
	ReasonPinnedToSeed = "PinnedToSeed"
	// ReasonPinHeld: spec.source names a source that the layers cannot be moved to.
	ReasonPinHeld = "PinHeld"
	// ReasonPlatformNotReady: the layers that Gitea needs are not ready.
	ReasonPlatformNotReady = "PlatformNotReady"
	// ReasonRolledBack: a switch was rolled back, and the next one waits a while.
	ReasonRolledBack = "RolledBack"

	// ReasonHomeUnreachable: Gitea does not answer.
	ReasonHomeUnreachable = "HomeUnreachable"
	// ReasonHomeInstallMode: Gitea waits for its installation to be finished.
	ReasonHomeInstallMode = "HomeInstallMode"
	// ReasonHomeUnsupported: what answers is no Gitea, or one that is too old.
	ReasonHomeUnsupported = "HomeUnsupported"
	// ReasonHomeRefused: Gitea refuses the credentials.
	ReasonHomeRefused = "HomeRefused"
	// ReasonHomeMissing: Gitea has no such repository.
	ReasonHomeMissing = "HomeMissing"
	// ReasonHomeMigrating: the repository is being migrated, or a migration was cut
	// off.
	ReasonHomeMigrating = "HomeMigrating"
	// ReasonHomeMirror: the repository is a pull mirror, which cannot be pushed to.
	ReasonHomeMirror = "HomeMirror"
	// ReasonHomeEmpty: the repository has no such branch.
	ReasonHomeEmpty = "HomeEmpty"
	// ReasonHomeReadmeOnly: the branch has files and no directory.
	ReasonHomeReadmeOnly = "HomeReadmeOnly"
	// ReasonHomeBehind: the branch lacks commits that were synced, or that the seed
	// has.
	ReasonHomeBehind = "HomeBehind"
	// ReasonHomeDiverged: the branch lacks commits that were synced, and has others.
	ReasonHomeDiverged = "HomeDiverged"
	// ReasonHomeLacksDirectories: the branch has no directory for a layer.
	ReasonHomeLacksDirectories = "HomeLacksDirectories"
	// ReasonHomeUnsettled: the home was not seen to be sound often enough.
	ReasonHomeUnsettled = "HomeUnsettled"
	// ReasonHomeUnproven: Argo CD was not seen to read the home yet.
	ReasonHomeUnproven = "HomeUnproven"

	// ReasonSwitching: the layers were pointed at the home, and are awaited.
	ReasonSwitching = "Switching"
	// ReasonRollBackHeld: the switch is late, and the seed lacks what was synced.
	ReasonRollBackHeld = "RollBackHeld"
)

// The reasons of ArgoCDReady.
const (
	// ReasonArgoCDInstalling: the chart is being installed, or what it made starts.
	ReasonArgoCDInstalling = "Installing"
	// ReasonArgoCDFailed: the chart cannot be installed; the message says why.
	ReasonArgoCDFailed = "InstallFailed"
	// ReasonArgoCDRunning: Argo CD runs as the operator installed it.
	ReasonArgoCDRunning = "Running"
	// ReasonArgoCDSelfManaged: Argo CD runs and manages itself.
	ReasonArgoCDSelfManaged = "SelfManaged"
	// ReasonArgoCDNotReady: a part of Argo CD that was handed over is not ready.
	ReasonArgoCDNotReady = "NotReady"
	// ReasonArgoCDUnsafe: a setting of Argo CD would let it delete Applications that
	// the operator wants kept.
	ReasonArgoCDUnsafe = "Unsafe"
)

// The reasons of LayersReady, and of a layer that is not ready.
const (
	// ReasonLayersAllReady: every Application of every layer is ready.
	ReasonLayersAllReady = "AllReady"
	// ReasonLayerWaits: a layer that it depends on is not ready.
	ReasonLayerWaits = "WaitsForLayer"
	// ReasonLayerNoApplications: the layer's directories have no Applications yet.
	ReasonLayerNoApplications = "NoApplications"
	// ReasonLayerEmpty: the repository has no directory for the layer.
	ReasonLayerEmpty = "NoDirectories"
	// ReasonLayerGeneratorFailed: Argo CD cannot make the layer's Applications.
	ReasonLayerGeneratorFailed = "GeneratorFailed"
	// ReasonLayerApplications: some Applications are not ready.
	ReasonLayerApplications = "ApplicationsNotReady"
	// ReasonLayerSameName: two directories would make the same Application.
	ReasonLayerSameName = "SameName"
	// ReasonLayersNotStarted: there is no source yet, or no Argo CD.
	ReasonLayersNotStarted = "NotStarted"
)

// The reasons of an Application that is not ready.
const (
	// ReasonAppMissing: its directory is there, and no Application.
	ReasonAppMissing = "Missing"
	// ReasonAppOtherSource: it does not point at the active source.
	ReasonAppOtherSource = "OtherSource"
	// ReasonAppDeleting: it is being deleted.
	ReasonAppDeleting = "Deleting"
	// ReasonAppOperating: a sync runs or is asked for.
	ReasonAppOperating = "Operating"
	// ReasonAppNotCompared: Argo CD has not looked at it since it last changed.
	ReasonAppNotCompared = "NotCompared"
	// ReasonAppError: Argo CD says of an error.
	ReasonAppError = "Error"
	// ReasonAppOldRevision: it is at another commit than the source.
	ReasonAppOldRevision = "OldRevision"
	// ReasonAppSyncFailed: the last sync failed.
	ReasonAppSyncFailed = "SyncFailed"
	// ReasonAppOutOfSync: objects differ from git.
	ReasonAppOutOfSync = "OutOfSync"
	// ReasonAppNoResources: it has no objects at all.
	ReasonAppNoResources = "NoResources"
	// ReasonAppUnhealthy: an object is not healthy.
	ReasonAppUnhealthy = "Unhealthy"
)

// The reasons of GitHubBehind.
const (
	// ReasonSeedIsSource: the layers follow the seed.
	ReasonSeedIsSource = "SeedIsSource"
	// ReasonSeedCurrent: the seed has all that the home has.
	ReasonSeedCurrent = "SeedCurrent"
	// ReasonSeedLacksCommits: the seed lacks commits of the home.
	ReasonSeedLacksCommits = "SeedLacksCommits"
	// ReasonSeedUnknown: the seed cannot be read.
	ReasonSeedUnknown = "SeedUnknown"
	// ReasonSeedDiverged: the seed has commits that the home lacks, so that no push
	// mirror may overwrite them.
	ReasonSeedDiverged = "SeedDiverged"
	// ReasonMirrorFailed: Gitea cannot push to the seed.
	ReasonMirrorFailed = "MirrorFailed"
)

// The reasons of LoadBalancerReady.
const (
	// ReasonPoolApplied: MetalLB has the pool.
	ReasonPoolApplied = "PoolApplied"
	// ReasonNoMetalLB: MetalLB's definitions are not there yet.
	ReasonNoMetalLB = "NoMetalLB"
	// ReasonNoPool: there is no pool to give: no Cluster, or its network is too small.
	ReasonNoPool = "NoPool"
	// ReasonPoolOverlaps: the pool holds an address of something else.
	ReasonPoolOverlaps = "PoolOverlaps"
	// ReasonPoolRefused: the API server refuses the pool.
	ReasonPoolRefused = "PoolRefused"
)

// The reasons of a GitOps' Ready, beside those of the condition that is not True.
const (
	// ReasonGitOpsReady: Argo CD, the source and the layers are ready.
	ReasonGitOpsReady = "GitOpsReady"
	// ReasonGitOpsTrouble: something that is to be done failed; the message says what.
	ReasonGitOpsTrouble = "Trouble"
	// ReasonSecondGitOps: there is an older GitOps, and this one is ignored.
	ReasonSecondGitOps = "SecondGitOps"
)
