/* Register sets of s390x notes, and the two generic notes around them (linux/elfcore.h). */
#ifndef SEED_ASM_ELF_H
#define SEED_ASM_ELF_H

#include "lowcore.h"

/* Registers come in by memcpy, as s390x bytes: host order, or gcc would refuse the text's &fpregset.fpc. */
typedef struct {
	psw_t psw;
	u64 gprs[16];
	u32 acrs[16];
	u64 orig_gpr2;
} elf_gregset_t;

typedef struct {
	u32 fpc;
	u32 pad;
	u64 fprs[16];
} elf_fpregset_t;

#pragma scalar_storage_order big-endian

struct elf_prstatus {
	struct {
		int si_signo, si_code, si_errno;
	} pr_info;
	short pr_cursig;
	u64 pr_sigpend, pr_sighold;
	int pr_pid, pr_ppid, pr_pgrp, pr_sid;
	struct {
		u64 tv_sec, tv_usec;
	} pr_utime, pr_stime, pr_cutime, pr_cstime;
	elf_gregset_t pr_reg;
	int pr_fpvalid;
};

struct elf_prpsinfo {
	char pr_state, pr_sname, pr_zomb, pr_nice;
	u64 pr_flag;
	u32 pr_uid, pr_gid;
	int pr_pid, pr_ppid, pr_pgrp, pr_sid;
	char pr_fname[16];
	char pr_psargs[80];
};

#pragma scalar_storage_order default

_Static_assert(sizeof(elf_fpregset_t) == 136, "fpregset");
_Static_assert(sizeof(struct elf_prstatus) == 336 && offsetof(struct elf_prstatus, pr_pid) == 32 &&
		       offsetof(struct elf_prstatus, pr_reg) == 112 &&
		       offsetof(struct elf_prstatus, pr_fpvalid) == 328,
	       "prstatus");
_Static_assert(sizeof(struct elf_prpsinfo) == 136 && offsetof(struct elf_prpsinfo, pr_fname) == 40, "prpsinfo");

#endif
