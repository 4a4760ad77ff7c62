package chaos

// Repairable says whether the cluster can mend a fault without a person. board: the
// machine's power can be turned off from outside.
//
// A machine that hangs is not mended by magic packets, which turn nothing off; nor is
// one whose cable is out. To one whose clock is wrong nothing is done, as long as a
// peer reaches its kubelet. One without a core Node can be reached by no pod, so that
// only its power can be switched.
func Repairable(f Fault, board bool) bool {
	switch f.Kind {
	case Kill, Wipe, Ail:
		return true
	case Hang, Stall, Forget:
		return board
	}
	return f.Lasts > 0
}

// Stops says whether the faults of a schedule, by the machines that they befell,
// keep the cluster from any repair until a person has come: as many as a storm, or
// two of its servers.
func (f Fleet) Stops(victims []string) bool {
	servers := 0
	for _, v := range victims {
		for _, s := range f.Servers {
			if v == s {
				servers++
			}
		}
	}
	return len(victims) > f.Tolerated() || servers*2 > len(f.Servers)
}
