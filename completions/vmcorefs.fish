# Completions of vmcorefs(1) for fish. Made by scripts/make-completions (make completions) with shtab; do not edit.

# Custom Preamble
function _vmcorefs_mounted  # mount points by the system's table: a mount that is dead or hangs is never asked
  for line in (string match -- '* - fuse.vmcorefs *' < /proc/self/mountinfo)
    set -l where (printf (string replace -a -- % %% (string split -f 5 ' ' -- $line)) | string collect)
    string match -q -- '/*' (commandline -ct); or set where (string replace -- "$PWD/" '' $where)
    printf '%s\n' $where
  end
end
function _vmcorefs_words_of_o  # its arguments: NAME, or NAME= where it has a value, a tab and what it is
  set -l typed (commandline -ct)
  set -l before (string match -r -- '^.*,' $typed)
  set -l last (string replace -r -- '^.*,' '' $typed)
  switch $last
    case 'pidfile=*' 'hsa=*' 'memory-map=*' 'vmcoreinfo=*' 'cpu-state=*' 'part=*' 'bad-map=*' 'capture=*'
      set -l name (string replace -r -- '=.*' '=' $last)
      for file in (complete -C "_vmcorefs_ $(string replace -r -- '^[^=]*=' '' $last)")
        printf '%s%s%s\n' "$before" $name $file
      end
    case 'io=*'
      printf '%s\n' "$before"io={auto,direct,cached}
    case 'backend=*'
      printf '%s\n' "$before"backend={auto,mfusepy,fusepy}
    case 'also=*'
      printf '%s\n' "$before"also={dump.s390,mem.raw}
    case 'mode=*'
      printf '%s\n' "$before"mode={auto,kdump,zfcpdump,plain,0400,0440,0444}
    case 'layout=*'
      printf '%s\n' "$before"layout={auto,5.8,6.1,6.10}
    case 'select=*'
      printf '%s\n' "$before"select={prod,kdump,all}
    case 'missing=*'
      printf '%s\n' "$before"missing={eio,zeros}
    case 'log-level=*'
      printf '%s\n' "$before"log-level={debug,info,warning,error}
    case '*'
      printf '%s\n' "$before"$argv
  end
end
function _vmcorefs_mount_words; _vmcorefs_words_of_o 'foreground	stay in the foreground until unmounted' 'io=	direct: each read goes to the image (auto); cached: through the page cache, allows MAP_SHARED' 'backend=	binding to libfuse; auto: mfusepy with libfuse 3, else what there is' 'also=	further files in the mount: dump.s390, the stand-alone dump format, for zgetdump and crash; mem.raw, memory by absolute address, sparse' 'allow-other	let other users look in, as far as owner, group and mode of the files let them; a user other than root needs user_allow_other in /etc/fuse.conf' 'replace-stale	clear a dead vmcorefs mount of this user off the mount point first; a living mount is never touched' 'pidfile=	the daemon'"'"'s pid; written when the mount answers, removed at its end' 'idle-timeout=	unmount when nobody has used the mount for so long (seconds; 10m, 2h)' 'nonempty	mount over a directory that is not empty' 'uid=	owner of the files (with allow_other)' 'gid=	group of the files (with allow_other)' 'mode=	what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain' 'oldmem=	base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same' 'hsa=	HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory' 'hsa-size=	HSA size, where the HSA file is longer' 'memory-range=	memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent' 'memory-map=	the same from a file: text of /proc/iomem or of lsmem -b' 'device-memory=	standby or device ranges that are no part of the machine'"'"'s memory (repeatable)' 'vmcoreinfo=	text of VMCOREINFO, for an image whose own cannot be found' 'cpu-state=	registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers' 'layout=	which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image' 'select=	which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies' 'part=	a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it' 'bad-map=	ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served' 'missing=	what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors' 'capture=	all of these in a file' 'log-level=	what is said'; end
function _vmcorefs_image_words; _vmcorefs_words_of_o 'mode=	what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain' 'oldmem=	base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same' 'hsa=	HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory' 'hsa-size=	HSA size, where the HSA file is longer' 'memory-range=	memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent' 'memory-map=	the same from a file: text of /proc/iomem or of lsmem -b' 'device-memory=	standby or device ranges that are no part of the machine'"'"'s memory (repeatable)' 'vmcoreinfo=	text of VMCOREINFO, for an image whose own cannot be found' 'cpu-state=	registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers' 'layout=	which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image' 'select=	which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies' 'part=	a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it' 'bad-map=	ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served' 'missing=	what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors' 'capture=	all of these in a file' 'log-level=	what is said'; end
# End Custom Preamble

# Parse current commandline:
# - _shtab_vmcorefs_cmdpath=(sub)command path seen so far
# - _shtab_vmcorefs_npos=number of positional arguments given after it
# - options are skipped based on _shtab_vmcorefs_opts_with_value & _shtab_vmcorefs_commands lists
function _shtab_vmcorefs_scan
  set -g _shtab_vmcorefs_cmdpath ''
  set -g _shtab_vmcorefs_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_vmcorefs_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_vmcorefs_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_vmcorefs_cmdpath"
            set candidate "$_shtab_vmcorefs_cmdpath $t"
          end
          if contains -- $candidate $_shtab_vmcorefs_commands
            set -g _shtab_vmcorefs_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_vmcorefs_npos (math $_shtab_vmcorefs_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_vmcorefs_using
  _shtab_vmcorefs_scan
  test "$_shtab_vmcorefs_cmdpath" = "$argv"
end

set -g _shtab_vmcorefs_commands mount umount list copy info check dmesg drgn
set -g _shtab_vmcorefs_opts_with_value --also --backend --bad-map --capture --cpu-state --device-memory --hsa --hsa-size --idle-timeout --io --layout --log-level --memory-map --memory-range --missing --mode --oldmem --part --pidfile --select --vmcoreinfo --vmlinux -e -o

complete -c vmcorefs -e
complete -c vmcorefs -f

complete -c vmcorefs -n _shtab_vmcorefs_using -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n _shtab_vmcorefs_using -l version -d 'show program'"'"'s version number and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a mount -d 'serve the image'"'"'s vmcore in a directory; returns when the mount answers'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -s f -l foreground -d 'stay in the foreground until unmounted'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l io -xka "auto direct cached" -d 'direct: each read goes to the image (auto); cached: through the page cache, allows MAP_SHARED'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l backend -xka "auto mfusepy fusepy" -d 'binding to libfuse; auto: mfusepy with libfuse 3, else what there is'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l also -xka "dump.s390 mem.raw" -d 'further files in the mount: dump.s390, the stand-alone dump format, for zgetdump and crash; mem.raw, memory by absolute address, sparse'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l allow-other -d 'let other users look in, as far as owner, group and mode of the files let them; a user other than root needs user_allow_other in /etc/fuse.conf'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l replace-stale -d 'clear a dead vmcorefs mount of this user off the mount point first; a living mount is never touched'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l pidfile -rF -d 'the daemon'"'"'s pid; written when the mount answers, removed at its end'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l idle-timeout -x -d 'unmount when nobody has used the mount for so long (seconds; 10m, 2h)'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l capture -rF -d 'all of these, and the image, in a file; options here win'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -s o -xka "(_vmcorefs_mount_words)" -d 'the same options by name, as mount(8) has them; \, stands for a comma'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l mode -xka "auto kdump zfcpdump plain" -d 'what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l oldmem -x -d 'base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l hsa -rF -d 'HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l hsa-size -x -d 'HSA size, where the HSA file is longer'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l memory-range -x -d 'memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l memory-map -rF -d 'the same from a file: text of /proc/iomem or of lsmem -b'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l device-memory -x -d 'standby or device ranges that are no part of the machine'"'"'s memory (repeatable)'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l vmcoreinfo -rF -d 'text of VMCOREINFO, for an image whose own cannot be found'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l cpu-state -rF -d 'registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l layout -xka "auto 5.8 6.1 6.10" -d 'which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l select -xka "prod kdump all" -d 'which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l part -rF -d 'a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l bad-map -rF -d 'ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l missing -xka "eio zeros" -d 'what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount; and test $_shtab_vmcorefs_npos -eq 0' -F -d 'memory image or dump of the crashed machine, a directory that holds a capture, or a capture file (.toml); may be left out with --capture'
complete -c vmcorefs -n '_shtab_vmcorefs_using mount; and test $_shtab_vmcorefs_npos -eq 1' -ka "(__fish_complete_directories (commandline -ct))" -d 'an empty directory; may be left out where the [mount] table of the capture file names it'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a umount -d 'unmount; returns when the image is released, says who holds it otherwise'
complete -c vmcorefs -n '_shtab_vmcorefs_using umount' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using umount' -l lazy -d 'detach it even if it is in use'
complete -c vmcorefs -n '_shtab_vmcorefs_using umount' -l if-mounted -d 'a place where nothing is mounted is no error'
complete -c vmcorefs -n '_shtab_vmcorefs_using umount' -l capture -rF -d 'the mount point that the [mount] table of this file names'
complete -c vmcorefs -n '_shtab_vmcorefs_using umount' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using umount; and test $_shtab_vmcorefs_npos -ge 0' -ka "(_vmcorefs_mounted)" -d 'where a vmcore is mounted (dead mounts, too)'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a list -d 'all vmcorefs mounts of this system, with counters and readers; dead ones are marked'
complete -c vmcorefs -n '_shtab_vmcorefs_using list' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using list' -l json -d 'for programs: an array of objects, sizes in bytes'
complete -c vmcorefs -n '_shtab_vmcorefs_using list' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a copy -d 'write the same bytes to a file or a pipe, without a mount'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l force -d 'overwrite FILE'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l capture -rF -d 'all of these, and the image, in a file; options here win'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -s o -xka "(_vmcorefs_image_words)" -d 'the same options by name, as mount(8) has them; \, stands for a comma'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l mode -xka "auto kdump zfcpdump plain" -d 'what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l oldmem -x -d 'base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l hsa -rF -d 'HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l hsa-size -x -d 'HSA size, where the HSA file is longer'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l memory-range -x -d 'memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l memory-map -rF -d 'the same from a file: text of /proc/iomem or of lsmem -b'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l device-memory -x -d 'standby or device ranges that are no part of the machine'"'"'s memory (repeatable)'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l vmcoreinfo -rF -d 'text of VMCOREINFO, for an image whose own cannot be found'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l cpu-state -rF -d 'registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l layout -xka "auto 5.8 6.1 6.10" -d 'which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l select -xka "prod kdump all" -d 'which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l part -rF -d 'a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l bad-map -rF -d 'ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l missing -xka "eio zeros" -d 'what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy; and test $_shtab_vmcorefs_npos -eq 0' -F -d 'memory image or dump of the crashed machine, a directory that holds a capture, or a capture file (.toml)'
complete -c vmcorefs -n '_shtab_vmcorefs_using copy; and test $_shtab_vmcorefs_npos -eq 1' -F -d 'where to write, by way of FILE.part, which a further copy continues; - is standard output'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a info -d 'what machine this was, why it died, how to open it; every fact with its origin'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l json -d 'for programs; docs/info.schema.json describes it'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l map -d 'draw which bytes of vmcore are which memory, and where it stands in the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l map=svg -d 'the same as a picture (SVG)'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l capture -rF -d 'all of these, and the image, in a file; options here win'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -s o -xka "(_vmcorefs_image_words)" -d 'the same options by name, as mount(8) has them; \, stands for a comma'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l mode -xka "auto kdump zfcpdump plain" -d 'what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l oldmem -x -d 'base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l hsa -rF -d 'HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l hsa-size -x -d 'HSA size, where the HSA file is longer'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l memory-range -x -d 'memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l memory-map -rF -d 'the same from a file: text of /proc/iomem or of lsmem -b'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l device-memory -x -d 'standby or device ranges that are no part of the machine'"'"'s memory (repeatable)'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l vmcoreinfo -rF -d 'text of VMCOREINFO, for an image whose own cannot be found'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l cpu-state -rF -d 'registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l layout -xka "auto 5.8 6.1 6.10" -d 'which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l select -xka "prod kdump all" -d 'which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l part -rF -d 'a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l bad-map -rF -d 'ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l missing -xka "eio zeros" -d 'what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors'
complete -c vmcorefs -n '_shtab_vmcorefs_using info' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using info; and test $_shtab_vmcorefs_npos -eq 0' -F -d 'memory image, or where its vmcore is mounted, a directory that holds a capture, or a capture file (.toml)'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a check -d 'every consistency check: what it looked at, found, means, and what to do; exit 1 where one fails'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l json -d 'for programs'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l capture -rF -d 'all of these, and the image, in a file; options here win'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -s o -xka "(_vmcorefs_image_words)" -d 'the same options by name, as mount(8) has them; \, stands for a comma'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l mode -xka "auto kdump zfcpdump plain" -d 'what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l oldmem -x -d 'base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l hsa -rF -d 'HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l hsa-size -x -d 'HSA size, where the HSA file is longer'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l memory-range -x -d 'memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l memory-map -rF -d 'the same from a file: text of /proc/iomem or of lsmem -b'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l device-memory -x -d 'standby or device ranges that are no part of the machine'"'"'s memory (repeatable)'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l vmcoreinfo -rF -d 'text of VMCOREINFO, for an image whose own cannot be found'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l cpu-state -rF -d 'registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l layout -xka "auto 5.8 6.1 6.10" -d 'which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l select -xka "prod kdump all" -d 'which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l part -rF -d 'a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l bad-map -rF -d 'ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l missing -xka "eio zeros" -d 'what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors'
complete -c vmcorefs -n '_shtab_vmcorefs_using check' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using check; and test $_shtab_vmcorefs_npos -eq 0' -F -d 'memory image, or where its vmcore is mounted, a directory that holds a capture, or a capture file (.toml)'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a dmesg -d 'the crashed kernel'"'"'s log, as makedumpfile --dump-dmesg prints it; exit 1 where a part of it is missing'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l callers -d 'with the task [T1] or CPU [C0] that logged each record, as makedumpfile from 1.7.5 on'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l capture -rF -d 'all of these, and the image, in a file; options here win'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -s o -xka "(_vmcorefs_image_words)" -d 'the same options by name, as mount(8) has them; \, stands for a comma'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l mode -xka "auto kdump zfcpdump plain" -d 'what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l oldmem -x -d 'base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l hsa -rF -d 'HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l hsa-size -x -d 'HSA size, where the HSA file is longer'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l memory-range -x -d 'memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l memory-map -rF -d 'the same from a file: text of /proc/iomem or of lsmem -b'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l device-memory -x -d 'standby or device ranges that are no part of the machine'"'"'s memory (repeatable)'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l vmcoreinfo -rF -d 'text of VMCOREINFO, for an image whose own cannot be found'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l cpu-state -rF -d 'registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l layout -xka "auto 5.8 6.1 6.10" -d 'which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l select -xka "prod kdump all" -d 'which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l part -rF -d 'a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l bad-map -rF -d 'ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l missing -xka "eio zeros" -d 'what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using dmesg; and test $_shtab_vmcorefs_npos -eq 0' -F -d 'memory image, or where its vmcore is mounted, a directory that holds a capture, or a capture file (.toml)'
complete -c vmcorefs -n '_shtab_vmcorefs_using; and test $_shtab_vmcorefs_npos -eq 0' -a drgn -d 'drgn on the image, without a mount: its shell, a script, or -e CODE'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -s h -l help -d 'show this help message and exit'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -s e -x -d 'Python code to run instead'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l vmlinux -rF -d 'the crashed kernel'"'"'s vmlinux with debug information; again for each module'"'"'s. Without it drgn looks for it in this system'"'"'s directories, not on the network'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l capture -rF -d 'all of these, and the image, in a file; options here win'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -s o -xka "(_vmcorefs_image_words)" -d 'the same options by name, as mount(8) has them; \, stands for a comma'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l mode -xka "auto kdump zfcpdump plain" -d 'what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, kdump where the image shows the swap, else plain'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l oldmem -x -d 'base and size of the crashkernel area (kdump), when the image does not say; sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l hsa -rF -d 'HSA image (zfcpdump): the first bytes of the crashed system'"'"'s memory'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l hsa-size -x -d 'HSA size, where the HSA file is longer'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l memory-range -x -d 'memory that the machine had (repeatable; END exclusive); default: what the image knows, else its extent'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l memory-map -rF -d 'the same from a file: text of /proc/iomem or of lsmem -b'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l device-memory -x -d 'standby or device ranges that are no part of the machine'"'"'s memory (repeatable)'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l vmcoreinfo -rF -d 'text of VMCOREINFO, for an image whose own cannot be found'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l cpu-state -rF -d 'registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU'"'"'s info registers'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l layout -xka "auto 5.8 6.1 6.10" -d 'which kernel'"'"'s bytes are produced; auto: the dump kernel'"'"'s, from the image'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l select -xka "prod kdump all" -d 'which system, where a dump kernel ran in the image: the crashed (production) system, the dump kernel'"'"'s own memory, or everything as it lies'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l part -rF -d 'a further part of an image that is split over files, or of a dump (repeatable, in order); image.000 image.001 ... are found without it'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l bad-map -rF -d 'ddrescue'"'"'s map of the image file: what could not be read when it was taken is not served'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l missing -xka "eio zeros" -d 'what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools that give up on errors'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn' -l log-level -xka "debug info warning error" -d 'what is said on stderr (default: info)'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn; and test $_shtab_vmcorefs_npos -eq 0' -F -d 'memory image, or where its vmcore is mounted, a directory that holds a capture, or a capture file (.toml)'
complete -c vmcorefs -n '_shtab_vmcorefs_using drgn; and test $_shtab_vmcorefs_npos -ge 1' -F -d 'a drgn script and its arguments; all options of vmcorefs stand before it'
