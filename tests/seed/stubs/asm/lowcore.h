#ifndef SEED_ASM_LOWCORE_H
#define SEED_ASM_LOWCORE_H

#include "../machine.h"

typedef struct {
	u64 mask;
	u64 addr;
} psw_t;

typedef struct {
	u32 u[4];
} __vector128;

/*
 * Order matters beyond the single offsets: this kernel copies 8 bytes from the 4-byte tod_progreg_save_area, so what
 * follows that field is part of the dump.
 */
struct lowcore {
	u8 pad_0x0000[0x0e0c];
	u64 vmcore_info; /* 0x0e0c, unaligned */
	u8 pad_0x0e14[0x0e18 - 0x0e14];
	u64 os_info; /* 0x0e18 */
	u8 pad_0x0e20[0x11b0 - 0x0e20];
	u64 mcesad; /* 0x11b0 */
	u8 pad_0x11b8[0x1200 - 0x11b8];
	u64 floating_pt_save_area[16]; /* 0x1200 */
	u64 gpregs_save_area[16]; /* 0x1280 */
	psw_t psw_save_area; /* 0x1300 */
	u8 pad_0x1310[0x1318 - 0x1310];
	u32 prefixreg_save_area; /* 0x1318 */
	u32 fpt_creg_save_area; /* 0x131c */
	u8 pad_0x1320[0x1324 - 0x1320];
	u32 tod_progreg_save_area; /* 0x1324 */
	u32 cpu_timer_save_area[2]; /* 0x1328 */
	u32 clock_comp_save_area[2]; /* 0x1330 */
	u64 last_break_save_area; /* 0x1338 */
	u32 access_regs_save_area[16]; /* 0x1340 */
	u64 cregs_save_area[16]; /* 0x1380 */
	u8 pad_0x1400[0x2000 - 0x1400];
} __packed;

_Static_assert(sizeof(struct lowcore) == 0x2000 && offsetof(struct lowcore, vmcore_info) == 0x0e0c &&
		       offsetof(struct lowcore, os_info) == 0x0e18 && offsetof(struct lowcore, mcesad) == 0x11b0 &&
		       offsetof(struct lowcore, floating_pt_save_area) == 0x1200 &&
		       offsetof(struct lowcore, gpregs_save_area) == 0x1280 &&
		       offsetof(struct lowcore, psw_save_area) == 0x1300 &&
		       offsetof(struct lowcore, prefixreg_save_area) == 0x1318 &&
		       offsetof(struct lowcore, fpt_creg_save_area) == 0x131c &&
		       offsetof(struct lowcore, tod_progreg_save_area) == 0x1324 &&
		       offsetof(struct lowcore, cpu_timer_save_area) == 0x1328 &&
		       offsetof(struct lowcore, clock_comp_save_area) == 0x1330 &&
		       offsetof(struct lowcore, last_break_save_area) == 0x1338 &&
		       offsetof(struct lowcore, access_regs_save_area) == 0x1340 &&
		       offsetof(struct lowcore, cregs_save_area) == 0x1380,
	       "lowcore offsets");

/* As in the kernel: the lowcore lies at address 0, so the address of a field is its offset. It is never read here. */
#define S390_lowcore (*(struct lowcore *)0)

#endif
