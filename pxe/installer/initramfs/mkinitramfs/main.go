// Command mkinitramfs writes an archive of the installer's initial ramdisk,
// uncompressed, to standard output: with -init the program, with -modules and
// -list the modules.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
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
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	var err error
	switch {
	case *init != "" && *dir == "":
		err = program(out, *init)
	case *init == "" && *dir != "" && *list != "":
		err = modules(out, *dir, *list)
	default:
		err = errors.New("want -init, or -modules and -list")
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintf(os.Stderr, "mkinitramfs: %v\n", err)
		os.Exit(1)
	}
}

func program(out io.Writer, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return initramfs.WriteProgram(out, b)
}

func modules(out io.Writer, dir, list string) (err error) {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	choice, err := initramfs.ReadChoice(f)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	names, err := initramfs.WriteModules(out, filepath.Base(dir), os.DirFS(dir), choice)
	if err != nil {
		return err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return err
	}
	if missing := initramfs.Missing(names, string(builtin)); len(missing) > 0 {
		return fmt.Errorf("the kernel package lacks %s, or the list does not choose it", strings.Join(missing, ", "))
	}
	fmt.Fprintf(os.Stderr, "mkinitramfs: %d modules\n", len(names))
	return nil
}
