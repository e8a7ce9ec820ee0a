// Package sealed seals small values, such as a cookie's, so that only the
// servers of one farm can read and make them, with keys that can be changed
// while the farm runs.
//
// Make a key file once with [Create], or the command "roam key new", give it to
// every server, and start with [New]:
//
//	keys, err := sealed.New(ctx, sealed.FromFile("keys.json"), nil)
//	if err != nil {
//		log.Fatal(err) // no key, a weak one, or one that others can read
//	}
//	go keys.Run(ctx)
//
//	mark := keys.Sealer("__Host-roam-mark", "shop.example", "mark")
//	value := mark.Seal(nil, plaintext, nil)
//	plaintext, err = mark.Open(nil, value, nil)
//
// Run reads the keys again every half a minute, so that a [Rotate] or [Drop] on
// the file takes effect on all servers without a restart. Keys can also come
// from an environment variable ([FromEnv]) or from any other place that
// implements [Provider].
//
// # What a sealed value is
//
//	0x01 | key id, 4 bytes | epoch, 4 bytes | nonce, 12 bytes | ciphertext | tag, 16 bytes
//
// It is AES-256-GCM with a random nonce. The epoch is the hour since 1970 in
// which it was sealed, by the sealing server's clock. Numbers are big-endian.
// With
//
//	context = the first 9 bytes | name | audience | purpose
//
// where each string comes after its length as a varint, the key of the cipher is
//
//	HKDF-SHA256(secret, no salt, info = "roam/sealed" | 0x00 | context)
//
// and the associated data is context followed by the caller's. So a value opens
// under the name, audience, purpose and associated data that it was sealed with,
// and under no other. The first byte fixes all of this: there is no algorithm to
// choose, and another version will have another byte.
//
// A key that is used with random nonces must not seal more than 2^32 messages
// (NIST SP 800-38D, section 8.3). Here that is a limit per hour, key and Sealer:
// the servers of a farm together may make a million values a second.
//
// A value names its key, and that one key is tried once. A key or a time that
// cannot be is refused before any cryptography. Every failure is [ErrOpen],
// whatever the cause, and comes with no data.
//
// AES-GCM does not commit to its key: whoever knows two keys can make a value
// that opens under both. It does not matter here, as keys are 256 random bits,
// which no outsider knows, and a value says which one it wants.
//
// # How keys change
//
// A key is next, current, retired or dropped:
//
//   - next: every server opens with it, none seals with it yet.
//   - current: the newest key whose time to seal has come.
//   - retired: a newer one is current. It still opens what was sealed with it.
//   - dropped: it opens nothing any more, anywhere. Only its id is left.
//
// [Rotate] adds a key that begins to seal in a minute ([Options.Propagation]),
// when every server has read it. A server also waits for as long after it has
// first seen a key, so that no clock needs to be right: a clock that is ahead
// cannot make it seal too early. Retired keys stay for the longest lifetime of
// what they sealed; then Rotate removes them.
//
// [Drop] is for a key that somebody else may have. Servers refuse what it sealed
// as soon as they read the file, within Options.Reload. It stays listed without
// its secret, and a server that has seen it dropped never accepts it again while
// it runs, whatever an older copy of the file says, neither under its id nor its
// secret under another. A server that starts knows only what it reads: replace
// every copy of the file, backups too.
//
// If the keys cannot be read, or make no sense, a server that runs keeps those it
// has, but for the ones that are said to be dropped, and says so in its log. A
// server that starts refuses to.
//
// # What is not promised
//
// That a value opens is no proof that it is new: a value can be sent again until
// its key or its hour is too old. What is inside must bring its own limits of
// time. Nor does sealing hide how long a value is.
//
// This package imports the standard library only and runs in FIPS 140-only mode.
package sealed
