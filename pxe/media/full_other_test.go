//go:build !linux

package media

func prepareProcess(string) error { return nil }
