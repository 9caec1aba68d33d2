package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page/report.html
var pageHTML string

//go:embed page/report.css
var pageCSS string

// mostListed bounds the rows of a table in the page.
const mostListed = 500

// plot is a list of bars.
type plot struct {
	Title string
	Rows  []plotRow
}

type plotRow struct {
	Name, Percent, Class string
	N                    int64
	Width                float64 // in percent
}

// pageData is what the page shows. html/template escapes all of it.
type pageData struct {
	CSS              template.CSS
	Made             string
	Crypto           Crypto
	Time             timePlot
	Legs             []pageLeg
	Profiles         []pageProfile
	Ends, Keys       plot
	Certificates     []pageCertificate
	Clients          []pageClient
	ClientCount      int64
	CertificateCount int64
	MoreCertificates int
	MoreClients      int
	MoreDamaged      int64
}

type pageLeg struct {
	Title string
	Flows int64
	Notes []string
	Plots []plot
}

type pageProfile struct {
	Name, Why      string
	Clients, Flows int64
	Width          float64
}

type pageCertificate struct {
	Ends, Subject, Names, Issuer, Of, Key, Where string
	Late                                         bool
	Flows                                        int64
}

type pageClient struct {
	Address, Names, Versions, Fails string
	Flows, Refused                  int64
}

// HTML writes one page without anything beside it: no scripts, no other files.
func (v *Inventory) HTML(w io.Writer, read Read, now time.Time) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"count": count, "stamp": stamp, "int64": func(n int) int64 { return int64(n) },
	}).Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("the page: %w", err)
	}
	return t.Execute(w, v.page(read, now))
}

func (v *Inventory) page(read Read, now time.Time) pageData {
	c := v.Crypto(read)
	d := pageData{
		CSS:  template.CSS(pageCSS), //nolint:gosec // our own file
		Made: now.UTC().Format(time.DateTime) + " UTC", Crypto: c, Time: v.time.plot(),
		MoreDamaged: c.Read.Damaged - int64(len(c.Read.At)),
		ClientCount: int64(len(v.clients.m)), CertificateCount: int64(len(v.certificates.m)),
	}
	for _, l := range []struct {
		title string
		leg   *Leg
	}{{"Negotiated with clients", &c.Client}, {"Negotiated with destinations", &c.Destination}, {"Negotiated by clients and servers themselves (bypass)", &c.Passing.Leg}} {
		if l.leg.Flows > 0 {
			d.Legs = append(d.Legs, legOf(l.title, l.leg))
		}
	}
	for _, p := range c.Profiles {
		d.Profiles = append(d.Profiles, pageProfile{Name: p.Name, Clients: int64(p.Clients), Flows: p.Flows, Width: part(p.Flows, c.Offered.Hellos), Why: names(p.Reasons)})
	}
	v.pageCertificates(&d, read, now)
	clients := v.Clients(read).All
	if d.MoreClients = len(clients) - mostListed; d.MoreClients > 0 {
		clients = clients[:mostListed]
	}
	d.MoreClients = max(d.MoreClients, 0)
	for _, e := range clients {
		d.Clients = append(d.Clients, pageClient{
			Address: e.Address, Flows: e.Flows, Refused: e.Refused, Names: strings.Join(e.Names, ", "),
			Versions: strings.Join(e.Versions, ", "), Fails: strings.Join(e.Fails, ", "),
		})
	}
	return d
}

func (v *Inventory) pageCertificates(d *pageData, read Read, now time.Time) {
	all := v.Certificates(read, now).All
	ends, keys := make([]int64, 7), counts{}
	for i := range all {
		e := &all[i]
		ends[span(e.DaysLeft)]++
		keys.add(e.Key)
		if i < mostListed {
			d.Certificates = append(d.Certificates, pageCertificate{
				Ends: daysLeft(e), Late: e.DaysLeft != nil && *e.DaysLeft < 30, Subject: e.Subject, Names: strings.Join(e.SANs, ", "), Issuer: e.Issuer,
				Of: e.Of, Key: e.Key, Flows: e.Flows, Where: strings.Join(e.Places, "; "),
			})
		}
	}
	d.MoreCertificates = max(0, len(all)-mostListed)
	d.Ends = plot{Title: "How many end when"}
	for i, name := range []string{"have ended", "within 7 days", "within 30 days", "within 90 days", "within a year", "later", "not known"} {
		class := "new"
		if i < 3 {
			class = "old"
		}
		if ends[i] > 0 {
			d.Ends.Rows = append(d.Ends.Rows, plotRow{Name: name, N: ends[i], Percent: percent(ends[i], int64(len(all))), Width: part(ends[i], int64(len(all))), Class: class})
		}
	}
	d.Keys = plotOf("Kinds of their keys", keys.list(), int64(len(all)))
}

func daysLeft(c *Certificate) string {
	if c.DaysLeft == nil {
		return "?"
	}
	return fmt.Sprint(*c.DaysLeft)
}

// span is the number of the span of days in which a certificate ends.
func span(days *int) int {
	if days == nil {
		return 6
	}
	for i, most := range []int{-1, 7, 30, 90, 365} {
		if *days <= most {
			return i
		}
	}
	return 5
}

func legOf(title string, l *Leg) pageLeg {
	out := pageLeg{Title: title, Flows: l.Flows}
	if l.Resumed > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d resumed", l.Resumed))
	}
	if l.HelloRetry > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d with a HelloRetryRequest", l.HelloRetry))
	}
	for _, p := range []struct {
		title string
		all   []Count
	}{{"Version", l.Versions}, {"CipherSuite", l.Suites}, {"Group", l.Groups}, {"Application protocol", l.ALPN}, {"Kind of key", l.Keys}} {
		if len(p.all) > 0 {
			out.Plots = append(out.Plots, plotOf(p.title, p.all, l.Flows))
		}
	}
	return out
}

// plotOf is a plot of the most frequent names.
func plotOf(title string, all []Count, of int64) plot {
	const most = 10
	p := plot{Title: title}
	rest := int64(0)
	for i, c := range all {
		if i >= most {
			rest += c.Flows
			continue
		}
		p.Rows = append(p.Rows, plotRow{Name: c.Name, N: c.Flows, Percent: percent(c.Flows, of), Width: part(c.Flows, of), Class: class(c.Name)})
	}
	if rest > 0 {
		p.Rows = append(p.Rows, plotRow{Name: fmt.Sprintf("%d others", len(all)-most), N: rest, Percent: percent(rest, of), Width: part(rest, of), Class: "none"})
	}
	return p
}

// class is the colour of a name: what holds against quantum computers, and what is old.
func class(name string) string {
	switch {
	case strings.Contains(name, "MLKEM"), strings.Contains(name, "ML-DSA"):
		return "pq"
	case name == plaintext, strings.HasPrefix(name, "none"):
		return "none"
	case strings.HasPrefix(name, "TLS 1.") && name != "TLS 1.3", strings.HasPrefix(name, "SSL"), strings.HasPrefix(name, "TLS_RSA_"), strings.Contains(name, "_CBC_"):
		return "old"
	}
	return "new"
}

func part(n, of int64) float64 {
	if of <= 0 {
		return 0
	}
	return float64(n) * 100 / float64(of)
}

func names(all []Count) string {
	out := make([]string, len(all))
	for i, c := range all {
		out[i] = c.Name
	}
	return strings.Join(out, ", ")
}
