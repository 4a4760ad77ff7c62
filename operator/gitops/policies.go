package gitops

import (
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// policy is one rule over the facts. It is violated, with a reason and a message,
// or has nothing to say.
type policy func(*facts) (reason, message string, violated bool)

// chain is policies in the order in which they are asked. The first that is
// violated speaks.
type chain []policy

func (c chain) evaluate(f *facts) (reason, message string, violated bool) {
	for _, p := range c {
		if reason, message, violated = p(f); violated {
			return reason, message, true
		}
	}
	return "", "", false
}

// The chains. No layer is ever pointed at a source that violates the chain of that
// source: it cannot be read, lacks what was synced, or lacks the directories that
// Applications came from, so that Argo CD would take their disappearance for a
// wish.
var (
	// usableSeed: the layers may be pointed at the seed.
	usableSeed = chain{seedIsReachable, seedContains, seedHasDirectories}
	// soundHome: the home is a repository that has everything. It is what the layers
	// that follow it need, too.
	soundHome = chain{
		homeAnswers, homeIsInstalled, homeIsSupported, homeAdmits, homeExists, homeIsMigrated,
		homeIsNoMirror, homeIsNotEmpty, homeIsNotReadmeOnly,
		homeContains, homeHasDirectories,
	}
	// usableHome: the layers may be pointed at the home.
	usableHome = append(append(chain{}, soundHome...), homeIsCurrent, homeIsProven)
	// toHome: they may without a person having asked for it.
	toHome = append(append(chain{platformIsReady, rolledBackLongAgo}, soundHome...), homeIsCurrent, homeIsSettled, homeIsProven)
)

func seedIsReachable(f *facts) (reason, message string, violated bool) {
	if f.seed.reachable {
		return "", "", false
	}
	return v1alpha1.ReasonSeedUnreachable, fmt.Sprintf("cannot read the seed %s: %s", f.words.seedURL, f.words.seedError), true
}

func seedContains(f *facts) (reason, message string, violated bool) {
	if f.seed.holds == contains {
		return "", "", false
	}
	return v1alpha1.ReasonSeedBehind, fmt.Sprintf("the seed %s is at %s, which lacks the synced commit %s: push it there",
		f.words.seedURL, f.words.seedHead, f.words.synced), true
}

func seedHasDirectories(f *facts) (reason, message string, violated bool) {
	if f.seed.directories {
		return "", "", false
	}
	return v1alpha1.ReasonSeedLacksDirectories, fmt.Sprintf("the seed %s at %s has no directory for %s: its Applications would be taken for removed",
		f.words.seedURL, f.words.seedHead, f.words.seedLacking), true
}

func platformIsReady(f *facts) (reason, message string, violated bool) {
	if f.platform {
		return "", "", false
	}
	return v1alpha1.ReasonPlatformNotReady, "Gitea waits for its layers: " + f.words.platform, true
}

func rolledBackLongAgo(f *facts) (reason, message string, violated bool) {
	if !f.holdOff {
		return "", "", false
	}
	return v1alpha1.ReasonRolledBack, "a switch was rolled back not long ago: " + f.words.rolledBack, true
}

func homeAnswers(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeUnreachable {
		return "", "", false
	}
	return v1alpha1.ReasonHomeUnreachable, fmt.Sprintf("cannot reach %s: %s", f.words.homeURL, f.words.homeError), true
}

func homeIsInstalled(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeInstallMode {
		return "", "", false
	}
	return v1alpha1.ReasonHomeInstallMode, fmt.Sprintf("%s is in install mode: finish its installation, or set INSTALL_LOCK=true", f.words.homeURL), true
}

func homeIsSupported(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeUnsupported {
		return "", "", false
	}
	return v1alpha1.ReasonHomeUnsupported, fmt.Sprintf("what answers at %s cannot be used: %s", f.words.homeURL, f.words.homeError), true
}

func homeAdmits(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeRefused {
		return "", "", false
	}
	return v1alpha1.ReasonHomeRefused, fmt.Sprintf("%s refuses: %s; correct the Secret that spec.home.credentials names", f.words.homeURL, f.words.homeError), true
}

func homeExists(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeMissing {
		return "", "", false
	}
	return v1alpha1.ReasonHomeMissing, fmt.Sprintf("%s is not there yet: it is migrated from %s", f.words.homeURL, f.words.seedURL), true
}

func homeIsMigrated(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeMigrating {
		return "", "", false
	}
	return v1alpha1.ReasonHomeMigrating, fmt.Sprintf("%s is being migrated, or its migration was cut off; if it stays so, delete it in Gitea: %s", f.words.homeURL, f.words.homeError), true
}

func homeIsNoMirror(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeMirror {
		return "", "", false
	}
	return v1alpha1.ReasonHomeMirror, fmt.Sprintf("%s is a pull mirror, which nobody can push to: convert it to a regular repository in Gitea's settings", f.words.homeURL), true
}

func homeIsNotEmpty(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeEmpty {
		return "", "", false
	}
	return v1alpha1.ReasonHomeEmpty, fmt.Sprintf("%s has no such branch: push what %s has, or delete it, so that it is migrated", f.words.homeURL, f.words.seedURL), true
}

func homeIsNotReadmeOnly(f *facts) (reason, message string, violated bool) {
	if f.home.state != homeReadmeOnly {
		return "", "", false
	}
	return v1alpha1.ReasonHomeReadmeOnly, fmt.Sprintf("%s at %s has no directory at all: push what %s has, or delete it, so that it is migrated",
		f.words.homeURL, f.words.homeHead, f.words.seedURL), true
}

func homeContains(f *facts) (reason, message string, violated bool) {
	if f.home.holds == diverged {
		return v1alpha1.ReasonHomeDiverged, fmt.Sprintf("%s is at %s, which lacks the synced commit %s and has others: merge the two", f.words.homeURL, f.words.homeHead, f.words.synced), true
	}
	return v1alpha1.ReasonHomeBehind, fmt.Sprintf("%s is at %s, which lacks the synced commit %s: push it there", f.words.homeURL, f.words.homeHead, f.words.synced),
		f.home.holds != contains
}

func homeIsCurrent(f *facts) (reason, message string, violated bool) {
	if f.home.current {
		return "", "", false
	}
	return v1alpha1.ReasonHomeBehind, fmt.Sprintf("%s is at %s, which lacks %s of the seed: push it there", f.words.homeURL, f.words.homeHead, f.words.seedHead), true
}

func homeHasDirectories(f *facts) (reason, message string, violated bool) {
	if f.home.directories {
		return "", "", false
	}
	return v1alpha1.ReasonHomeLacksDirectories, fmt.Sprintf("%s at %s has no directory for %s: its Applications would be taken for removed",
		f.words.homeURL, f.words.homeHead, f.words.homeLacking), true
}

func homeIsSettled(f *facts) (reason, message string, violated bool) {
	if f.home.settled {
		return "", "", false
	}
	return v1alpha1.ReasonHomeUnsettled, fmt.Sprintf("%s has everything; it is looked at again before anything moves", f.words.homeURL), true
}

func homeIsProven(f *facts) (reason, message string, violated bool) {
	if f.proven {
		return "", "", false
	}
	return v1alpha1.ReasonHomeUnproven, fmt.Sprintf("Argo CD is asked to read %s at %s: %s", f.words.homeURL, f.words.homeHead, f.words.proof), true
}
