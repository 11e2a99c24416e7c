#ifndef SEED_LINUX_CRASH_DUMP_H
#define SEED_LINUX_CRASH_DUMP_H

#include "../machine.h"

#define KEXEC_CORE_NOTE_NAME "CORE"
#define VMCOREINFO_NOTE_NAME "VMCOREINFO"

/*
 * vmcore.c's own two variables: it calls elfcorehdr_alloc(&elfcorehdr_addr, &elfcorehdr_size), so that the text's
 * BUG_ON compares the size it has just stored. The harness calls it the same way.
 */
static unsigned long long elfcorehdr_addr;
static unsigned long long elfcorehdr_size;

#endif
