package report

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Read says what a report was made of. Its names in JSON are stable, and so are those of
// all results.
type Read struct {
	Files   int      `json:"files"`
	Lines   int64    `json:"lines"`
	Damaged int64    `json:"damaged"`
	Packets int64    `json:"packets"`    // of captures
	At      []Damage `json:"damaged_at"` // the first of them
	Flows   int64    `json:"flows"`
	From    string   `json:"from"` // of the earliest record, RFC 3339; "" without one
	To      string   `json:"to"`
	// Missing is how many records are in no file, though later ones of the same process are: by
	// their numbers (seq), which older versions do not have.
	Missing int64 `json:"missing"`
	// Again is how many records were read before, by their numbers too, and count once.
	Again int64 `json:"again"`
	// Twice are names of files that were given before, and were read once.
	Twice []string `json:"files_twice"`
	// Undated is how many flows have no time that can be read: they are in no span of time.
	Undated int64 `json:"undated"`
	// Full says which tables had no room for everything: what is listed is less than was seen.
	Full []string `json:"full"`
}

// Read is what the inventory was made of.
func (v *Inventory) Read(files []string, r *Reader) Read {
	out := Read{
		Files: len(files), Lines: r.Lines(), Damaged: r.Bad, At: []Damage{}, Flows: v.flows, From: v.first, To: v.last,
		Missing: v.series.Missing(), Again: v.series.Again(), Twice: []string{}, Undated: v.undated, Full: []string{},
	}
	for _, d := range r.Damaged {
		out.At = append(out.At, Damage{shown(d.Place), shown(d.Why)})
	}
	for _, name := range r.Twice {
		out.Twice = append(out.Twice, shown(name))
	}
	if v.clients.lost > 0 {
		out.Full = append(out.Full, "clients")
	}
	if v.certificates.lost > 0 {
		out.Full = append(out.Full, "certificates")
	}
	if v.time.lost > 0 {
		out.Full = append(out.Full, "hours")
	}
	if v.series.Full() {
		out.Full = append(out.Full, "record numbers")
	}
	return out
}

// Crypto is `report crypto`.
type Crypto struct {
	Read        Read      `json:"read"`
	Verdicts    []Count   `json:"verdicts"`
	Actions     []Count   `json:"actions"`
	Reasons     []Count   `json:"reasons"` // why flows were refused, or failed
	Would       int64     `json:"would"`   // flows that an observed rule would have refused
	Client      Leg       `json:"client_leg"`
	Destination Leg       `json:"destination_leg"`
	Passing     Passing   `json:"passing"`
	Offered     Offered   `json:"offered"`
	Profiles    []Profile `json:"profiles"`
}

// Passing is what was read of bypassed flows as they went by. Its keys are those of
// destinations.
type Passing struct {
	Leg
	Asked  int64   `json:"certificate_requested"`
	Alerts []Count `json:"alerts"` // that ended the handshake in the clear
}

// Leg is what was negotiated with one side.
type Leg struct {
	Flows      int64   `json:"flows"`
	Versions   []Count `json:"versions"`
	Suites     []Count `json:"suites"`
	Groups     []Count `json:"groups"`
	ALPN       []Count `json:"alpn"`
	Keys       []Count `json:"keys"` // of the certificates that the side showed
	Resumed    int64   `json:"resumed"`
	HelloRetry int64   `json:"hello_retry"`
}

// Offered is what clients offered in their hellos, whatever came of it.
type Offered struct {
	Hellos int64   `json:"hellos"`
	Newest []Count `json:"newest_version"`
	MLKEM  int64   `json:"mlkem"` // hellos with a group of ML-KEM
	JA4    []Count `json:"ja4"`
	// ClientsWithoutMLKEM are clients that have sent a hello without ML-KEM, of Clients
	// that have sent any.
	ClientsWithoutMLKEM int `json:"clients_without_mlkem"`
	Clients             int `json:"clients"`
}

// Profile is who would fail under a profile, by what the hellos offer alone.
type Profile struct {
	Name    string  `json:"name"`
	Flows   int64   `json:"flows_fail"`
	Clients int     `json:"clients_fail"`
	Reasons []Count `json:"reasons"`
}

// Crypto is what was spoken.
func (v *Inventory) Crypto(read Read) Crypto {
	out := Crypto{
		Read: read, Verdicts: v.verdicts.list(), Actions: v.actions.list(), Reasons: v.reasons.list(), Would: v.would,
		Client: v.toClient.result(), Destination: v.toDestination.result(),
		Passing: Passing{Leg: v.passing.result(), Asked: v.asked, Alerts: v.alerts.list()},
		Offered: Offered{Hellos: v.offers.hellos, Newest: v.offers.newest.list(), MLKEM: v.offers.mlkem, JA4: v.offers.ja4.list()},
	}
	failing := make([]int, len(v.judges.profiles))
	for _, c := range v.clients.m {
		if c.hellos > 0 {
			out.Offered.Clients++
		}
		if c.withoutMLKEM > 0 {
			out.Offered.ClientsWithoutMLKEM++
		}
		for i := range failing {
			failing[i] += int(c.fails >> i & 1)
		}
	}
	for i, p := range v.judges.profiles {
		f := &v.offers.fails[i]
		out.Profiles = append(out.Profiles, Profile{p.Name, f.flows, failing[i], f.reasons.list()})
	}
	return out
}

func (l *leg) result() Leg {
	return Leg{
		Flows: l.flows, Versions: l.versions.list(), Suites: l.suites.list(), Groups: l.groups.list(), ALPN: l.alpn.list(), Keys: l.keys.list(),
		Resumed: l.resumed, HelloRetry: l.retried,
	}
}

// Certificates is `report certificates`.
type Certificates struct {
	Read Read          `json:"read"`
	All  []Certificate `json:"certificates"` // the one that ends first is the first
}

// Certificate is one that was seen. Texts of peers are escaped.
type Certificate struct {
	Of        string   `json:"of"` // client or destination
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer"`
	Serial    string   `json:"serial"`
	SANs      []string `json:"sans"`
	SPKI      string   `json:"spki"`
	Key       string   `json:"key"`
	NotBefore string   `json:"not_before"`
	NotAfter  string   `json:"not_after"`
	DaysLeft  *int     `json:"days_left"` // null where not_after is not known
	Authority string   `json:"authority"`
	Flows     int64    `json:"flows"`
	Proven    int64    `json:"proven"` // flows in which possession of the key was proven
	First     string   `json:"first"`
	Last      string   `json:"last"`
	Places    []string `json:"places"`  // server name and destination
	Clients   []string `json:"clients"` // addresses
}

// Certificates lists what was seen, as of now.
func (v *Inventory) Certificates(read Read, now time.Time) Certificates {
	out := Certificates{Read: read, All: []Certificate{}}
	for k, c := range v.certificates.m {
		sans := few{texts: c.sans}
		e := Certificate{
			Of: k.role, Subject: shown(c.subject), Issuer: shown(k.issuer), Serial: shown(k.serial), SANs: sans.list(), SPKI: shown(k.spki), Key: shown(c.key),
			NotBefore: shown(c.notBefore), NotAfter: shown(c.notAfter), Authority: shown(c.authority), Flows: c.flows, Proven: c.proven,
			First: c.first, Last: c.last, Places: c.places.list(), Clients: c.clients.list(),
		}
		if n, ok := days(now, c.notAfter); ok {
			e.DaysLeft = &n
		}
		out.All = append(out.All, e)
	}
	slices.SortFunc(out.All, func(a, b Certificate) int {
		return cmp.Or(strings.Compare(a.NotAfter, b.NotAfter), strings.Compare(a.Of, b.Of), strings.Compare(a.Subject, b.Subject),
			strings.Compare(a.Issuer, b.Issuer), strings.Compare(a.Serial, b.Serial), strings.Compare(a.SPKI, b.SPKI))
	})
	return out
}

// Clients is `report clients`.
type Clients struct {
	Read Read     `json:"read"`
	All  []Client `json:"clients"` // by address
}

// Client is one address.
type Client struct {
	Address  string   `json:"address"`
	Names    []string `json:"names"` // subjects of certificates that it has proven
	Flows    int64    `json:"flows"`
	Refused  int64    `json:"refused"`
	Failed   int64    `json:"failed"`
	Would    int64    `json:"would"`
	Versions []string `json:"versions"`
	JA4      []string `json:"ja4"`
	Hellos   int64    `json:"hellos"`
	NoMLKEM  int64    `json:"hellos_without_mlkem"`
	Fails    []string `json:"fails"` // profiles that one of its hellos does not meet
	First    string   `json:"first"`
	Last     string   `json:"last"`
}

// Clients lists who was seen.
func (v *Inventory) Clients(read Read) Clients {
	out := Clients{Read: read, All: []Client{}}
	for _, addr := range slices.SortedFunc(maps.Keys(v.clients.m), netip.Addr.Compare) {
		c := v.clients.m[addr]
		e := Client{
			Address: addr.String(), Names: c.names.list(), Flows: c.flows, Refused: c.refused, Failed: c.failed, Would: c.would,
			Versions: c.versions.list(), JA4: c.ja4.list(), Hellos: c.hellos, NoMLKEM: c.withoutMLKEM, Fails: []string{}, First: c.first, Last: c.last,
		}
		for i, p := range v.judges.profiles {
			if c.fails>>i&1 == 1 {
				e.Fails = append(e.Fails, p.Name)
			}
		}
		out.All = append(out.All, e)
	}
	return out
}
