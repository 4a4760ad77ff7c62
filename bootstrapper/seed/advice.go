package seed

import "github.com/rhizome-dev/rhizome/pxe"

// advice is what a person should look at when nothing happens: by the phase that
// waits and the stage that the machine was last seen at (empty: never seen).
func advice(phase string, stage pxe.Stage) string {
	if phase == phaseJoin {
		switch stage {
		case pxe.StageDHCP, pxe.StageLoader, pxe.StageConfig, pxe.StageInstalled:
			return adviceLocalBoot
		}
	}
	switch stage {
	case "":
		if phase == phaseJoin {
			return adviceJoin
		}
		return "is it turned on, on this network, and set to boot from the network first (PXE, IPv4)? Is the MAC in the Node right? Wake-on-LAN must be enabled in the firmware; turning the machine on by hand does as well"
	case pxe.StageDHCP:
		return "the firmware asked and did not come for its boot loader: is another boot server on the network, or a firewall on this machine that blocks UDP 69 and 4011?"
	case pxe.StageLoader:
		return "the boot loader runs and did not come for its config: look at the machine's screen; does a firewall on this machine block the HTTP port? With Secure Boot on, only spec.boot.loader Signed works"
	case pxe.StageConfig:
		return "the boot loader did not come for the kernel: look at the machine's screen; another loader may work better (spec.boot.loader on the Node)"
	case pxe.StageKernel, pxe.StageInitrd:
		return "the kernel was fetched and the installer did not call: look at the machine's screen; it needs 1 GB of memory and a network card that the kernel knows"
	case pxe.StageInitConfig, pxe.StageInstalling:
		return "the installer works or hangs: look at the machine's screen; a failing disk is slow before it fails"
	case pxe.StageInstalled:
		return adviceLocalBoot
	case pxe.StageFailed:
		return "the installer said why above"
	case pxe.StageMedia:
		if phase == phaseInstall {
			return "the installer writes or hangs: look at the machine's screen"
		}
		return "the installed system fetches its files: look at its console (systemctl status rhizome-join)"
	case pxe.StageCredentials:
		return adviceJoin
	case pxe.StageRefused:
		return "a request was refused: the rule stands above"
	}
	return "look at the machine's screen"
}

const adviceJoin = "k3s starts: look at the machine's console (journalctl -u k3s); it needs 2 GB of memory, and its images if the network has no internet"

const adviceLocalBoot = "the machine is to boot its own disk and its system did not call yet: look at its screen; if it stays in its firmware or its boot loader, choose another way with spec.boot.local on the Node"
