// Command mkinitramfs writes the installer's initial ramdisk, uncompressed, to
// standard output.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rhizome-dev/rhizome/pxe/installer/initramfs"
)

func main() {
	init := flag.String("init", "", "the installer's program, a static binary")
	dir := flag.String("modules", "", "lib/modules/RELEASE of a kernel package, after depmod")
	list := flag.String("list", "", "the list of modules")
	flag.Parse()
	if err := run(*init, *dir, *list); err != nil {
		fmt.Fprintf(os.Stderr, "mkinitramfs: %v\n", err)
		os.Exit(1)
	}
}

func run(init, dir, list string) (err error) {
	program, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	choice, err := initramfs.ReadChoice(f)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	names, err := initramfs.Write(out, initramfs.Contents{
		Init: program, Release: filepath.Base(dir), Modules: os.DirFS(dir), Choice: choice,
	})
	if err != nil {
		return err
	}
	if missing := initramfs.Missing(names); len(missing) > 0 {
		return fmt.Errorf("the kernel package lacks %s, or the list does not choose it", strings.Join(missing, ", "))
	}
	fmt.Fprintf(os.Stderr, "mkinitramfs: %d modules\n", len(names))
	return out.Flush()
}
