package evaluate

import (
	"fmt"
	"math/rand/v2"
)

// Decision is one choice that a randomised policy made and logged: what it earned, with which probability the policy made it, and with which
// probability each policy that is asked about would have made the same one.
type Decision struct {
	User    string
	Reward  float64
	Logged  float64   // above 0, at most 1
	Targets []float64 // one per policy, 0 to 1
}

// PolicyValue is what a policy would have earned per decision, estimated from another's log.
type PolicyValue struct {
	Policy string `json:"policy"`
	// IPS weights every reward with target / logged probability (Horvitz and Thompson, 1952): unbiased where the logged probabilities are
	// true and above 0 wherever the target's are, and wide where weights are large. SNIPS divides by the sum of the weights instead of the
	// number of decisions (Swaminathan and Joachims, NIPS 2015): a little bias for much less variance.
	IPS     float64  `json:"ips"`
	IPSCI   Interval `json:"ips_ci"`
	SNIPS   float64  `json:"snips"`
	SNIPSCI Interval `json:"snips_ci"`
	// MinusFirst is the paired difference of SNIPS to the first policy's.
	MinusFirst   float64  `json:"minus_first"`
	MinusFirstCI Interval `json:"minus_first_ci"`
	// MeanWeight is 1 but for chance where the logged probabilities are true: what is far from 1 says that they are not, or that the log
	// lacks what the policy would do.
	MeanWeight float64 `json:"mean_weight"`
	Effective  float64 `json:"effective"` // decisions without weights that would say as much (Kish): (sum of weights)^2 / sum of their squares
	Heaviest   float64 `json:"heaviest"`  // the largest weight
}

// OffPolicyReport is a log seen by several policies.
type OffPolicyReport struct {
	Decisions int           `json:"decisions"`
	Users     int           `json:"users"`
	Earned    float64       `json:"earned"` // by the policy that logged, per decision
	EarnedCI  Interval      `json:"earned_ci"`
	Policies  []PolicyValue `json:"policies"`
}

// policySums are one user's: of n decisions, and of each policy's weights.
type policySums struct {
	n, reward float64
	weight    []float64
	earned    []float64 // weight x reward
}

func (s *policySums) merge(o *policySums) {
	s.n += o.n
	s.reward += o.reward
	for k := range s.weight {
		s.weight[k] += o.weight[k]
		s.earned[k] += o.earned[k]
	}
}

func newPolicySums(policies int) *policySums {
	return &policySums{weight: make([]float64, policies), earned: make([]float64, policies)}
}

func (s *policySums) snips(k int) float64 {
	if s.weight[k] == 0 {
		return 0
	}
	return s.earned[k] / s.weight[k]
}

// OffPolicy estimates what each of the named policies would have earned. Intervals are 95 %, users drawn with replacement: decisions for one
// user are not independent. It refuses probabilities that cannot be.
func OffPolicy(decisions []Decision, policies []string, boot Bootstrap) (*OffPolicyReport, error) {
	out := &OffPolicyReport{Decisions: len(decisions), Policies: make([]PolicyValue, len(policies))}
	place := map[string]int{}
	var users []*policySums
	squares := make([]float64, len(policies))
	for i := range decisions {
		d := &decisions[i]
		if !(d.Logged > 0 && d.Logged <= 1) || len(d.Targets) != len(policies) {
			return nil, fmt.Errorf("decision %d of user %s: logged probability %v, %d target probabilities for %d policies", i+1, d.User, d.Logged, len(d.Targets), len(policies))
		}
		at, ok := place[d.User]
		if !ok {
			at = len(users)
			place[d.User], users = at, append(users, newPolicySums(len(policies)))
		}
		u := users[at]
		u.n, u.reward = u.n+1, u.reward+d.Reward
		for k, p := range d.Targets {
			if !(p >= 0 && p <= 1) {
				return nil, fmt.Errorf("decision %d of user %s: %s would make it with probability %v, must be 0 to 1", i+1, d.User, policies[k], p)
			}
			w := p / d.Logged
			u.weight[k], u.earned[k] = u.weight[k]+w, u.earned[k]+w*d.Reward
			squares[k] += w * w
			out.Policies[k].Heaviest = max(out.Policies[k].Heaviest, w)
		}
	}
	out.Users = len(users)
	if len(users) == 0 {
		return out, nil
	}
	all := newPolicySums(len(policies))
	for _, u := range users {
		all.merge(u)
	}
	out.Earned = all.reward / all.n
	out.draw(users, all, boot)
	for k, name := range policies {
		v := &out.Policies[k]
		v.Policy, v.MeanWeight = name, all.weight[k]/all.n
		if squares[k] > 0 {
			v.Effective = all.weight[k] * all.weight[k] / squares[k]
		}
	}
	return out, nil
}

// draw fills the values and their intervals in.
func (r *OffPolicyReport) draw(users []*policySums, all *policySums, boot Bootstrap) {
	k := len(r.Policies)
	earned, ips, snips, minus := make([]float64, 0, boot.Samples), make([][]float64, k), make([][]float64, k), make([][]float64, k)
	random := rand.New(rand.NewPCG(boot.Seed, 0))
	for range boot.Samples {
		s := newPolicySums(k)
		for range users {
			s.merge(users[random.IntN(len(users))])
		}
		earned = append(earned, s.reward/s.n)
		for p := range k {
			ips[p], snips[p], minus[p] = append(ips[p], s.earned[p]/s.n), append(snips[p], s.snips(p)), append(minus[p], s.snips(p)-s.snips(0))
		}
	}
	r.EarnedCI = interval(earned, r.Earned)
	for p := range k {
		v := &r.Policies[p]
		v.IPS, v.SNIPS, v.MinusFirst = all.earned[p]/all.n, all.snips(p), all.snips(p)-all.snips(0)
		v.IPSCI, v.SNIPSCI, v.MinusFirstCI = interval(ips[p], v.IPS), interval(snips[p], v.SNIPS), interval(minus[p], v.MinusFirst)
	}
}
