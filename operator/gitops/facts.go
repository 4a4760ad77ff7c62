package gitops

import "github.com/rhizome-dev/rhizome/crds/v1alpha1"

// facts is everything that the decision about the source of truth rests on. The
// fields that decide have few values, so that a test can go through all of them;
// what is only said stands in words.
type facts struct {
	// active is the source that the layers follow, as it is recorded; empty: none was
	// chosen yet.
	active v1alpha1.SourceName
	// switching: a switch to the home was begun, and neither finished nor rolled back.
	switching bool
	// late: the switch had its time.
	late bool
	// holdOff: a switch was rolled back not long ago.
	holdOff bool
	// moved: the spec names another repository or branch for the active source than
	// the layers follow.
	moved bool
	// pin is what a person wants.
	pin v1alpha1.SourcePin
	// hasHome: spec.home is set.
	hasHome bool

	seed reading
	home homeReading

	// platform: the layers that Gitea needs are ready at the seed's commit.
	platform bool
	// proven: Argo CD's repo-server was seen to read the home's branch as it is now.
	proven bool
	// arrived: every Application was compared with the home's commit, and the layers
	// that Gitea needs are ready at it.
	arrived bool

	words words
}

// reading is what a look at a branch showed.
type reading struct {
	// reachable: the branch could be read.
	reachable bool
	// holds is how the branch stands to all that was synced. Where nothing was, every
	// branch contains it.
	holds relation
	// directories: every layer that has Applications finds a directory, and at least
	// one layer does.
	directories bool
}

// homeReading is what a look at Gitea showed.
type homeReading struct {
	state homeState
	// holds and directories as of a reading; they mean something when state is
	// homeReadable.
	holds       relation
	directories bool
	// current: the branch has all that the seed's branch has, or the seed cannot be
	// read.
	current bool
	// settled: it was seen to be so more than once.
	settled bool
	// lost: it was seen not to be sound for long, and each time that was looked.
	lost bool
}

// relation is how a branch stands to commits.
type relation int

const (
	// unknown is taken for behind.
	unknown relation = iota
	// contains: all of them are in the branch's history.
	contains
	// behind: they build on the branch.
	behind
	// diverged: the branch has commits that they do not build on.
	diverged
)

// homeState is what Gitea's API says. The order is that in which it is found out.
type homeState int

const (
	homeUnreachable homeState = iota
	homeInstallMode
	homeUnsupported
	homeRefused
	homeMissing
	homeMigrating
	homeMirror
	homeEmpty
	homeReadmeOnly
	homeReadable
)

// words are what messages are made of. They decide nothing.
type words struct {
	seedURL, homeURL     string
	seedError, homeError string
	synced               string // the last synced commit
	seedHead, homeHead   string
	// lacking names the layers without a directory.
	seedLacking, homeLacking string
	// platform says what of the layers that Gitea needs is not ready.
	platform string
	// arriving says what is not ready from the home.
	arriving string
	// proof says how far Argo CD's reading is.
	proof string
	// rolledBack says why the last switch was rolled back, and until when the next one
	// waits.
	rolledBack string
	// lost says for how long the home has not been sound, and until when it is waited.
	lost string
}
