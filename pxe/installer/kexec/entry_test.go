package kexec

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// What update-grub writes on Debian, in its shape: nothing in it that a first boot
// looks at is left out.
const debianGRUB = `
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="0"
fi
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
    save_env saved_entry
  fi
}
terminal_input console
set timeout=0
function gfxmode {
	set gfxpayload="${1}"
}
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	insmod part_gpt
	search --no-floppy --fs-uuid --set=root 5f2c
	echo	'Loading Linux 6.1.0-40-cloud-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-40-cloud-amd64 root=PARTUUID=8e1f ro console=tty0 console=ttyS0,115200 $vt_handoff
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initrd.img-6.1.0-40-cloud-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-40 (recovery mode)' {
		linux	/boot/vmlinuz-6.1.0-40-cloud-amd64 root=PARTUUID=8e1f ro single
		initrd	/boot/initrd.img-6.1.0-40-cloud-amd64
	}
}
`

const fedoraEntry = `title Fedora Linux (6.14.0)
version 6.14.0
linux /vmlinuz-6.14.0
initrd /initramfs-6.14.0.img $tuned_initrd
options root=UUID=77 ro rootflags=subvol=root no_timer_check console=ttyS0,115200n8 $tuned_params
grub_users $grub_users
grub_class fedora
`

func files(names ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i := 0; i < len(names); i += 2 {
		out[names[i]] = &fstest.MapFile{Data: []byte(names[i+1])}
	}
	return out
}

func debian(config string, more ...string) fstest.MapFS {
	return files(append([]string{
		"boot/grub/grub.cfg", config,
		"boot/vmlinuz-6.1.0-40-cloud-amd64", "kernel", "boot/initrd.img-6.1.0-40-cloud-amd64", "initrd",
	}, more...)...)
}

func fedora(more ...string) fstest.MapFS {
	return files(append([]string{
		"grub2/grub.cfg", "set default=\"${saved_entry}\"\nload_env\nblscfg\n",
		"loader/entries/0-rescue.conf", "linux /rescue\n",
		"loader/entries/a.conf", fedoraEntry,
		"vmlinuz-6.14.0", "kernel", "initramfs-6.14.0.img", "initrd",
	}, more...)...)
}

func TestFindIsWhatTheBootLoaderWouldStart(t *testing.T) {
	debianEntry := Entry{
		Kernel: "boot/vmlinuz-6.1.0-40-cloud-amd64", Initrds: []string{"boot/initrd.img-6.1.0-40-cloud-amd64"},
		Args: "root=PARTUUID=8e1f ro console=tty0 console=ttyS0,115200",
	}
	fedoraWant := Entry{
		Kernel: "vmlinuz-6.14.0", Initrds: []string{"initramfs-6.14.0.img"},
		Args: "root=UUID=77 ro rootflags=subvol=root no_timer_check console=ttyS0,115200n8",
	}
	second := Entry{Kernel: "vmlinuz-6.14.0", Args: "root=UUID=78"}
	for _, tt := range []struct {
		reason string
		system fstest.MapFS
		want   Entry
	}{
		{"Debian's script", debian(debianGRUB), debianEntry},
		{"a default that was saved as the first", debian(strings.ReplaceAll(debianGRUB, `default="0"`, `default="${saved_entry}"`), "boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=0\n####"), debianEntry},
		{"a script without entries, and a /boot of its own", files("grub/grub.cfg", "set timeout=0\nlinux /vmlinuz root=LABEL=root \"quiet\" dyndbg='file a.c +p' 'a b'\nboot\n", "vmlinuz", "kernel"),
			Entry{Kernel: "vmlinuz", Args: `root=LABEL=root quiet dyndbg="file a.c +p" "a b"`}},
		{"several initial ramdisks", files("boot/grub/grub.cfg", "linux //boot/./k a\ninitrd /boot/microcode /boot/i\n", "boot/k", "", "boot/microcode", "", "boot/i", ""),
			Entry{Kernel: "boot/k", Initrds: []string{"boot/microcode", "boot/i"}, Args: "a"}},
		{"entries as files", fedora(), fedoraWant},
		{"entries as files without GRUB", files("loader/entries/a.conf", fedoraEntry, "vmlinuz-6.14.0", "", "initramfs-6.14.0.img", ""), fedoraWant},
		{"the saved entry of several", fedora("loader/entries/b.conf", "linux /vmlinuz-6.14.0\noptions root=UUID=78\n", "grub2/grubenv", "saved_entry=b\n"), second},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			got, err := Find(tt.system)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindDoesNotGuess(t *testing.T) {
	change := func(old, new string) fstest.MapFS {
		if !strings.Contains(debianGRUB, old) {
			t.Fatalf("there is no %q to change", old)
		}
		return debian(strings.Replace(debianGRUB, old, new, 1))
	}
	linux := "	linux	/boot/vmlinuz-6.1.0-40-cloud-amd64 root=PARTUUID=8e1f ro console=tty0"
	for _, tt := range []struct {
		reason string
		system fstest.MapFS
		want   string
	}{
		{"a file system of data", files("home/you", ""), errNone.Error()},
		{"another default", change(`default="0"`, `default="1"`), "another entry than the first"},
		{"another default, not set by set", change(`set default="0"`, `default=2`), "another entry than the first"},
		{"a saved default", debian(strings.Replace(debianGRUB, `default="0"`, `default="${saved_entry}"`, 1), "boot/grub/grubenv", "saved_entry=gnulinux-advanced-1\n"), "another entry than the first"},
		{"an entry for once", debian(debianGRUB, "boot/grub/grubenv", "next_entry=2\n"), "for the next boot only"},
		{"a kernel that hangs on a condition", change(linux, "if [ $x ]; then\n"+linux), "hangs on a condition"},
		{"two kernels", change(linux, linux+"\n"+linux), "several kernels"},
		{"an unknown variable", change("$vt_handoff", "${mystery}"), "${mystery} is not known"},
		{"a variable with an open brace", change("$vt_handoff", "${mystery"), "is not known"},
		{"a quote that is not closed", change("$vt_handoff", "'abc"), "quote is not closed"},
		{"a backslash at the end", change("$vt_handoff", "abc\\"), "ends with a backslash"},
		{"a kernel on another device", change("linux	/boot", "linux	(hd1,gpt1)/boot"), "on another device"},
		{"a kernel that is not there", change("vmlinuz-6.1.0-40-cloud-amd64 root", "vmlinuz-7 root"), "boot/vmlinuz-7"},
		{"a kernel that is a directory", change("/boot/vmlinuz-6.1.0-40-cloud-amd64 root", "/boot root"), "not a file"},
		{"a command line that is too long", change("$vt_handoff", strings.Repeat("x", 2048)), "more than 2047"},
		{"a command without a file", change(linux+" console=ttyS0,115200 $vt_handoff", "	linux"), "names no file"},
		{"a menu first", change("menuentry 'Debian GNU/Linux' ", "submenu 'x' "), "first entry is a menu"},
		{"entries that start nothing", files("boot/grub/grub.cfg", "menuentry 'x' {\n chainloader +1\n}\n"), "starts no kernel"},
		{"a script that is too long", files("boot/grub/grub.cfg", strings.Repeat("#", maxConfig+1)), "more than"},
		{"two entries as files", fedora("loader/entries/b.conf", "linux /vmlinuz-6.14.0\n"), "has 2 entries"},
		{"an entry of a program for the firmware", fedora("loader/entries/a.conf", "efi /x.efi\n"), "it starts efi"},
		{"an entry without a kernel", fedora("loader/entries/a.conf", "title x\n"), "names no kernel"},
		{"an entry with an unknown variable", fedora("loader/entries/a.conf", "linux /vmlinuz-6.14.0\noptions $kernelopts\n"), "$kernelopts is not known"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			got, err := Find(tt.system)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Find = %+v, %v, want an error with %q", got, err, tt.want)
			}
		})
	}
}

// FuzzFind reads boot configurations of strangers: what is found is files that are
// there and a command line that a kernel takes.
func FuzzFind(f *testing.F) {
	f.Add(debianGRUB, "saved_entry=\n", fedoraEntry)
	f.Add("blscfg\n", "saved_entry=a\n", fedoraEntry)
	f.Add("linux '/k' \"a $vt_handoff\\\" b\"\ninitrd /k\n", "", "linux k\n")
	f.Fuzz(func(t *testing.T, script, environment, entry string) {
		system := files("grub/grub.cfg", script, "grub/grubenv", environment, "loader/entries/a.conf", entry, "k", "kernel",
			"boot/vmlinuz-6.1.0-40-cloud-amd64", "", "boot/initrd.img-6.1.0-40-cloud-amd64", "", "vmlinuz-6.14.0", "", "initramfs-6.14.0.img", "")
		got, err := Find(system)
		if err != nil {
			return
		}
		for _, name := range append([]string{got.Kernel}, got.Initrds...) {
			if _, ok := system[name]; !ok {
				t.Errorf("%q was found and is not there", name)
			}
		}
		if len(got.Args) > maxArgs || strings.ContainsAny(got.Args, "\n\x00") {
			t.Errorf("the command line is %q", got.Args)
		}
	})
}
