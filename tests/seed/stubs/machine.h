/*
 * The described machine, and the few kernel words every stub needs.
 *
 * These headers are written for this test alone: they give the kernel text what it asks for, nothing more. Structures
 * that reach the header as numbers are declared big endian (scalar_storage_order); whatever the text only moves
 * with memcpy keeps the host's order, because its bytes are s390x bytes already.
 */
#ifndef SEED_MACHINE_H
#define SEED_MACHINE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#if defined(__clang__) || !defined(__GNUC__) || __GNUC__ < 6
#error "scalar_storage_order needs gcc 6 or later (clang ignores it and would write host order)"
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef u64 phys_addr_t;

_Static_assert(sizeof(void *) == 8, "the text reads 8-byte pointers: a 64-bit host is needed");

#define __init
#define __user
#define __force
#define __packed __attribute__((packed))

/* Ends the program with the words on stderr: the kernel would have stopped here. */
__attribute__((noreturn)) void machine_stopped(const char *why);

#define panic(text) machine_stopped(text)
#define BUG_ON(condition)                               \
	do {                                            \
		if (condition)                          \
			machine_stopped("BUG_ON(" #condition ")"); \
	} while (0)

#endif
