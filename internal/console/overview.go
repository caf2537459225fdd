package console

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// overview is the body of the first page.
type overview struct {
	Range   string // key of ranges
	Ranges  []timeRange
	Figures []figure
	Charts  []chart
	Reasons []reason
	Empty   bool // there is no MCP server yet
	// Attention is what an operator should look at.
	Attention []notice
	Until     admin.Moment
}

// notice is a sentence with the path of the page where something can be done about it.
type notice struct{ Text, Path string }

// timeRange is a time that the overview can show.
type timeRange struct {
	Key, Name string
	length    time.Duration
}

var ranges = []timeRange{
	{"day", "24 hours", 24 * time.Hour},
	{"week", "7 days", 7 * 24 * time.Hour},
	{"month", "30 days", 30 * 24 * time.Hour},
}

// figure is a number with its name.
type figure struct {
	Name string
	N    int64
	Path string // of the page that shows what was counted, "" for none
}

// reason is why something was refused, and how often.
type reason struct {
	Code string
	N    int64
}

// overviewRoutes are the first page.
func (e *Endpoint) overviewRoutes() []web.Route {
	return []web.Route{e.route("/admin", e.show(e.overview), nil)}
}

func (e *Endpoint) overview(v *visit) (outcome, error) {
	chosen := ranges[1]
	for _, r := range ranges {
		if r.Key == v.query.Get("range") {
			chosen = r
		}
	}
	now := e.DB.Now()
	counts, err := e.Operations.Overview(v.Context(), v.caller, now.Add(-chosen.length), now)
	if err != nil {
		return nil, err
	}
	servers, _, err := e.Operations.Resources(v.Context(), v.caller, store.Page{Limit: 1})
	if err != nil {
		return nil, err
	}
	body := overview{Range: chosen.Key, Ranges: ranges, Empty: len(servers) == 0, Until: counts.CompleteTo,
		Attention: e.attention(v)}
	var tokens, refused, failed, signIns, agents int64
	series := map[string][]bar{}
	for _, part := range counts.Parts {
		tokens, refused, failed = tokens+part.Tokens, refused+part.Refused, failed+part.Failed
		signIns, agents = signIns+part.SignIns, max(agents, part.Agents)
		for name, n := range map[string]int64{
			"tokens": part.Tokens, "refused": part.Refused, "sign-ins": part.SignIns, "agents": part.Agents,
		} {
			series[name] = append(series[name], bar{At: part.Begins, N: n})
		}
	}
	body.Figures = []figure{
		{"answers with a token", tokens, "/admin/audit?action=token.request&outcome=allowed"},
		{"refusals", refused, "/admin/audit?outcome=refused"},
		{"failures of tools", failed, "/admin/audit?outcome=failed"},
		{"agents at work at once, at most", agents, "/admin/clients"},
		{"sign-ins of people", signIns, "/admin/audit?action=login"},
	}
	step := time.Duration(counts.Step)
	body.Charts = []chart{
		newChart("tokens", "Answers with a token", "", step, series["tokens"]),
		newChart("refused", "Refusals", "bad", step, series["refused"]),
		newChart("agents", "Agents at work", "", step, series["agents"]),
		newChart("sign-ins", "Sign-ins of people", "", step, series["sign-ins"]),
	}
	for _, code := range slices.Sorted(maps.Keys(counts.Reasons)) {
		body.Reasons = append(body.Reasons, reason{code, counts.Reasons[code]})
	}
	slices.SortStableFunc(body.Reasons, func(a, b reason) int { return cmp.Compare(b.N, a.N) })
	return screen{template: "overview.html", title: "Overview", body: body}, nil
}

// chart is a row of bars, drawn as SVG by its template, with the same numbers as a table.
type chart struct {
	ID, Title string
	Class     string // of the bars
	Total     int64
	Step      string
	Bars      []bar
	Most      int64 // the largest N
	First     admin.Moment
	Last      admin.Moment
}

// bar is a number at a time. X, Y, Width and Height are in units of the chart's view box.
type bar struct {
	At                  admin.Moment
	N                   int64
	X, Y, Width, Height string
}

// The view box of a chart: the bars stand in the height below the top line of text.
const (
	chartWidth  = 600 // and 144 high
	chartTop    = 20
	chartBottom = 118
)

// newChart returns the chart of a series. A bar that counts something is at least one unit high.
func newChart(id, title, class string, step time.Duration, bars []bar) chart {
	c := chart{ID: id, Title: title, Class: class, Step: admin.Span(step).String(), Bars: bars}
	for _, b := range bars {
		c.Total += b.N
		c.Most = max(c.Most, b.N)
	}
	if len(bars) == 0 {
		return c
	}
	c.First, c.Last = bars[0].At, bars[len(bars)-1].At
	slot := float64(chartWidth) / float64(len(bars))
	for i := range bars {
		height := 0.0
		if bars[i].N > 0 {
			height = max(1, float64(bars[i].N)/float64(c.Most)*(chartBottom-chartTop))
		}
		bars[i].X, bars[i].Width = decimal(float64(i)*slot+slot*.1), decimal(slot*.8)
		bars[i].Y, bars[i].Height = decimal(chartBottom-height), decimal(height)
	}
	return c
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
