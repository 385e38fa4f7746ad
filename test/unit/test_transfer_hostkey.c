/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "transfer/hostkey.h"

/* Two ed25519 keys: length and type, length and 32 bytes. */
static const unsigned char blob_a[] = "\0\0\0\x0bssh-ed25519\0\0\0\x20"
				      "0123456789abcdef0123456789abcdef";
static const unsigned char blob_b[] = "\0\0\0\x0bssh-ed25519\0\0\0\x20"
				      "ffffffffffffffffffffffffffffffff";
#define A "AAAAC3NzaC1lZDI1NTE5AAAAIDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm"
#define B "AAAAC3NzaC1lZDI1NTE5AAAAIGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm"

START_TEST(reading)
{
	auto_done(hostkey) k = { .base64 = NULL };
	struct err e = { 0 };

	ck_ok(hostkey_read(blob_a, sizeof(blob_a) - 1, &k, &e), e);
	ck_assert_str_eq(k.type, "ssh-ed25519");
	ck_assert_str_eq(k.base64, A);
	ck_assert_str_eq(k.fingerprint, "SHA256:r0jjAatH+rPa97KMRB4yEkCq0GlcmkYyacWqmoyiTwI");
	ck_fails(hostkey_read("\0\0\0\7ssh-rsa\0\0\0\1x", 16, &k, &e), EPROTONOSUPPORT);
	ck_fails(hostkey_read("\0\0\0\xffssh-rsa", 11, &k, &e), EPROTO);
	ck_fails(hostkey_read("", 0, &k, &e), EPROTO);
}
END_TEST

START_TEST(pins)
{
	static const struct {
		const char *file, *host;
		int want;
	} t[] = {
		{ "oberon ssh-ed25519 " A "\n", "oberon", 0 },
		{ "oberon ssh-ed25519 " A, "OBERON", 0 },
		{ "x,oberon,y ssh-ed25519 " A " comment\n", "oberon", 0 },
		{ "oberon  ssh-ed25519\t" A "\r\n", "oberon", 0 },
		{ "# oberon ssh-ed25519 " A "\n", "oberon", -ENOKEY },
		{ "titania ssh-ed25519 " A "\n", "oberon", -ENOKEY },
		{ "", "oberon", -ENOKEY },
		{ "oberon ssh-ed25519 " A "\n", "[oberon]:2222", -ENOKEY },
		{ "[oberon]:2222 ssh-ed25519 " A "\n", "[oberon]:2222", 0 },
		{ "oberon ssh-ed25519 " B "\n", "oberon", -EKEYREJECTED },
		{ "oberon ecdsa-sha2-nistp256 " A "\n", "oberon", -EKEYREJECTED },
		{ "oberon ssh-ed25519 " B "\noberon ssh-ed25519 " A "\n", "oberon", 0 },
		{ "oberon ssh-ed25519 " A "\n@revoked oberon ssh-ed25519 " A "\n", "oberon",
		  -EKEYREVOKED },
		{ "@revoked oberon ssh-ed25519 " B "\n", "oberon", -ENOKEY },
		{ "@cert-authority oberon ssh-ed25519 " A "\n", "oberon", -ENOKEY },
		{ "* ssh-ed25519 " A "\n", "oberon", -ENOKEY },
		{ "oberon ssh-ed25519\n", "oberon", -ENOKEY },
	};
	auto_done(hostkey) k = { .base64 = NULL };
	auto_buf struct buf file = { 0 };
	char pinned[64] = "";
	struct err e = { 0 };

	ck_ok(hostkey_read(blob_a, sizeof(blob_a) - 1, &k, &e), e);
	ck_assert_int_eq(buf_str(&file, t[_i].file), 0);
	ck_assert_int_eq(hostkey_check(&file, t[_i].host, &k, pinned), t[_i].want);
}
END_TEST

START_TEST(other_pin)
{
	auto_done(hostkey) k = { .base64 = NULL };
	auto_buf struct buf file = { 0 };
	char pinned[64] = "";
	struct err e = { 0 };

	ck_assert_int_eq(buf_str(&file, "oberon ssh-ed25519 " A "\n"), 0);
	ck_ok(hostkey_read(blob_b, sizeof(blob_b) - 1, &k, &e), e);
	ck_assert_int_eq(hostkey_check(&file, "oberon", &k, pinned), -EKEYREJECTED);
	ck_assert_str_eq(pinned, "SHA256:r0jjAatH+rPa97KMRB4yEkCq0GlcmkYyacWqmoyiTwI");
}
END_TEST

START_TEST(preference)
{
	auto_buf struct buf file = { 0 }, list = { 0 };

	ck_assert_int_eq(buf_str(&file, "o ecdsa-sha2-nistp384 " A "\nx ssh-ed25519 " A "\n"), 0);
	ck_assert_int_ge(hostkey_types(&file, "o", &list), 0);
	ck_assert_str_eq(list.data, "ecdsa-sha2-nistp384,ssh-ed25519,ecdsa-sha2-nistp256,"
				    "ecdsa-sha2-nistp521");
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_test(t, reading);
	tcase_add_loop_test(t, pins, 0, 17);
	tcase_add_test(t, other_pin);
	tcase_add_test(t, preference);
}

int main(void)
{
	return unit_main("transfer/hostkey", tests);
}
