package credential

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/cardea-auth/cardea/internal/identity"
)

// Passkeys makes and checks the passkeys of one server (WebAuthn Level 3, https://www.w3.org/TR/webauthn-3/). It wants
// each to be verified: the person unlocks it, by a finger, a face or a PIN.
type Passkeys struct{ party *webauthn.WebAuthn }

// algorithms are those of the keys that are accepted. Windows Hello has RS256 alone.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// NewPasskeys returns the passkeys of the server with the given issuer. It returns nil if there can be none, because
// browsers make them for domain names and not for IP addresses.
func NewPasskeys(issuer string) (*Passkeys, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("credential: passkeys: %w", err)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return nil, nil //nolint:nilnil // as said above
	}
	party, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: u.Host, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		// Password managers answer with extensions that nobody asked for. Nothing reads them.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, fmt.Errorf("credential: passkeys: %w", err)
	}
	return &Passkeys{party}, nil
}

// session is what the library wants to know of a ceremony. userID is that of the person who makes a passkey, or "" for
// a sign-in, in which the passkey says whose it is.
func (p *Passkeys) session(challenge []byte, userID string) webauthn.SessionData {
	return webauthn.SessionData{
		Challenge: protocol.URLEncodedBase64(challenge).String(), RelyingPartyID: p.party.Config.RPID,
		UserID: []byte(userID), UserVerification: protocol.VerificationRequired, CredParams: algorithms,
	}
}

// holder is a person and their passkeys as the library wants them.
type holder struct {
	*identity.User
	keys []*identity.Passkey
}

func (h holder) WebAuthnID() []byte          { return []byte(h.ID) }
func (h holder) WebAuthnName() string        { return h.Label() }
func (h holder) WebAuthnDisplayName() string { return h.Label() }

func (h holder) WebAuthnCredentials() []webauthn.Credential {
	all := make([]webauthn.Credential, len(h.keys))
	for i, k := range h.keys {
		all[i] = webauthn.Credential{
			ID: k.CredentialID, PublicKey: k.PublicKey, Authenticator: webauthn.Authenticator{SignCount: k.SignCount},
			Flags: webauthn.CredentialFlags{BackupEligible: k.BackupEligible, BackupState: k.BackedUp},
		}
		for _, t := range k.Transports {
			all[i].Transport = append(all[i].Transport, protocol.AuthenticatorTransport(t))
		}
	}
	return all
}

// Creation returns what a browser needs to make a passkey for a person: PublicKeyCredentialCreationOptions in JSON. An
// authenticator that has one of keys makes no other.
func (p *Passkeys) Creation(person *identity.User, keys []*identity.Passkey, challenge []byte) (string, error) {
	who := holder{person, keys}
	creation, _, err := p.party.BeginRegistration(who,
		webauthn.WithCredentialParameters(algorithms),
		webauthn.WithExclusions(webauthn.Credentials(who.WebAuthnCredentials()).CredentialDescriptors()),
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		}),
		func(o *protocol.PublicKeyCredentialCreationOptions) error {
			o.Challenge = challenge
			return nil
		})
	if err != nil {
		return "", fmt.Errorf("credential: passkeys: %w", err)
	}
	return asText(creation.Response)
}

// Request returns what a browser needs to sign somebody in: PublicKeyCredentialRequestOptions in JSON.
func (p *Passkeys) Request(challenge []byte) (string, error) {
	request, _, err := p.party.BeginDiscoverableLogin(webauthn.WithChallenge(challenge),
		webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return "", fmt.Errorf("credential: passkeys: %w", err)
	}
	return asText(request.Response)
}

func asText(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// maxPublicKey is the longest public key that is kept, in bytes. An RSA key of 4096 bits has fewer.
const maxPublicKey = 1024

// Created is an answer of a browser that has made a passkey, not yet checked.
type Created struct {
	parsed *protocol.ParsedCredentialCreationData
}

// ParseCreated reads the answer, a RegistrationResponseJSON.
func ParseCreated(answer string) (*Created, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return nil, cause(err)
	}
	// Nothing was asked about the maker of the authenticator, and strangers' certificates are not worth the reading.
	a := &parsed.Response.AttestationObject
	a.Format, a.AttStatement, a.SubStatements = string(protocol.AttestationFormatNone), nil, nil
	return &Created{parsed}, nil
}

// Challenge returns the challenge that the browser says it was given.
func (c *Created) Challenge() []byte { return challengeOf(c.parsed.Response.CollectedClientData) }

// Create returns the passkey that a browser has made for a person who was given challenge. It has no ID, Name or times.
// It returns an error if the answer is not to this challenge, or is for another site, or the person did not unlock the
// passkey.
func (p *Passkeys) Create(person *identity.User, challenge []byte, c *Created) (*identity.Passkey, error) {
	made, err := p.party.CreateCredential(holder{User: person}, p.session(challenge, person.ID), c.parsed)
	if err != nil {
		return nil, cause(err)
	}
	if len(made.PublicKey) > maxPublicKey {
		return nil, errors.New("the public key is too long")
	}
	k := &identity.Passkey{
		UserID: person.ID, CredentialID: made.ID, PublicKey: made.PublicKey, SignCount: made.Authenticator.SignCount,
		BackupEligible: made.Flags.BackupEligible, BackedUp: made.Flags.BackupState,
		AAGUID: uuid(made.Authenticator.AAGUID),
	}
	for _, t := range made.Transport {
		if transports[t] {
			k.Transports = append(k.Transports, string(t))
		}
	}
	return k, nil
}

// transports are the transports that browsers know.
var transports = map[protocol.AuthenticatorTransport]bool{
	protocol.USB: true, protocol.NFC: true, protocol.BLE: true, protocol.SmartCard: true, protocol.Hybrid: true,
	protocol.Internal: true,
}

// Assertion is an answer of a browser in which somebody signs in with a passkey, not yet checked.
type Assertion struct {
	parsed *protocol.ParsedCredentialAssertionData
}

// ParseAssertion reads the answer, an AuthenticationResponseJSON.
func ParseAssertion(answer string) (*Assertion, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return nil, cause(err)
	}
	return &Assertion{parsed}, nil
}

// CredentialID returns the credential ID of the passkey that was used.
func (a *Assertion) CredentialID() []byte { return a.parsed.RawID }

// Challenge returns the challenge that the browser says it was given.
func (a *Assertion) Challenge() []byte { return challengeOf(a.parsed.Response.CollectedClientData) }

// ErrCopied means that the signature counter of a passkey did not rise, so that the passkey may have been copied.
var ErrCopied = errors.New("the counter of the passkey has not risen")

// Check returns the passkey as it is after the sign-in, which store.Tx.UsePasskey stores. It returns ErrCopied, or an
// error if the answer is not to this challenge, or is for another site, or the person did not unlock the passkey, or
// did not sign with it.
func (p *Passkeys) Check(person *identity.User, key *identity.Passkey, challenge []byte,
	a *Assertion) (*identity.Passkey, error) {
	used := *key
	// The flag must never change, but it does: while a passkey begins to be copied to a cloud, and between password
	// managers that share one. It is not signed by anybody whom we could trust more than the passkey itself.
	used.BackupEligible = a.parsed.Response.AuthenticatorData.Flags.HasBackupEligible()
	whose := func(_, handle []byte) (webauthn.User, error) {
		if !bytes.Equal(handle, []byte(person.ID)) {
			return nil, errors.New("the passkey is of another account")
		}
		return holder{person, []*identity.Passkey{&used}}, nil
	}
	_, got, err := p.party.ValidatePasskeyLogin(whose, p.session(challenge, ""), a.parsed)
	switch {
	case err != nil:
		return nil, cause(err)
	case got.Authenticator.CloneWarning:
		return nil, ErrCopied
	}
	used.SignCount, used.BackedUp = got.Authenticator.SignCount, got.Flags.BackupState
	return &used, nil
}

// cause returns what the library says is wrong, in the words that it has for people.
func cause(err error) error {
	if detailed := (*protocol.Error)(nil); errors.As(err, &detailed) {
		return errors.New(detailed.Details)
	}
	return err
}

func challengeOf(said protocol.CollectedClientData) []byte {
	challenge, err := base64.RawURLEncoding.DecodeString(said.Challenge)
	if err != nil {
		return nil
	}
	return challenge
}

// uuid returns the text of a UUID, or "" if it is none or zero.
func uuid(b []byte) string {
	if len(b) != 16 || bytes.Equal(b, make([]byte, 16)) {
		return ""
	}
	t := hex.EncodeToString(b)
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}

// passkeyProviders are the names of passkey providers, such as password managers, by AAGUID. They come from the list at
// https://github.com/passkeydeveloper/passkey-authenticator-aaguids, and are only shown.
var passkeyProviders = map[string]string{
	"08987058-cadc-4b81-b6e1-30de50dcbe96": "Windows Hello",
	"9ddd1817-af5a-4672-a2b9-3e3dd95000a9": "Windows Hello",
	"6028b017-b1d4-4c02-b4b3-afcdafc96bb2": "Windows Hello",
	"0ea242b4-43c4-4a1b-8b17-dd6d0b6baec6": "PasskeyProvider",
	"50726f74-6f6e-5061-7373-50726f746f6e": "Proton Pass",
	"53414d53-554e-4700-0000-000000000000": "Samsung Pass",
	"531126d6-e717-415c-9320-3d9aa6981239": "Dashlane",
	"adce0002-35bc-c60a-648b-0b25f1f05503": "Chrome on Mac",
	"b84e4048-15dc-4dd0-8640-f4f60813c8af": "NordPass",
	"bada5566-a7aa-401f-bd96-45619a55120d": "1Password",
	"d548826e-79b4-db40-a3d8-11116f7e8349": "Bitwarden",
	"dd4ec289-e01d-41c9-bb89-70fa845d4bf2": "iCloud Keychain",
	"ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4": "Google Password Manager",
	"f3809540-7f14-49c1-a8b3-8f813b225541": "Enpass",
	"fbfc3007-154e-4ecc-8c0b-6e020557d7bd": "iCloud Keychain",
	"fdb141b2-5d84-443e-8a35-4698c205a502": "KeePassXC",
}

// PasskeyProvider returns the name of the passkey provider with this AAGUID, such as a password manager, or "" if it is
// not known.
func PasskeyProvider(aaguid string) string { return passkeyProviders[aaguid] }
