"""tune7.py EXPERT STEPS RATE HOLD: go on with a shipped expert on fresh plain and later segments, what is small or pale weighing more."""
import os, sys, time, json, random, signal
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1)
import precision; precision.NATIVE=()
from pathlib import Path
from restore import restore, MODEL
import experts as E
from experts import choose, levels, any_given, shown, UNPROMPTED, PLAIN
from batches import even
from flow import predict, mixed, masked, euler_levels, GUIDANCE, BOUNDARY
from collections import deque
from svid.wan.prompts import NEGATIVE_ZH
from latents import Segments, whole
from optim import Average, Muon, split, schedule
from prompts import NOTHING
expert, total, rate, hold = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
BIAS=float(os.environ.get('BIAS','1'))
folder=Path('@RUN@/run15'); path=folder/f'deep-{expert}.pt'
mini=restore(MODEL)
begun=torch.load('@RUN@/run14/experts.pt')
with torch.no_grad():
    for e in ('high','low'):
        for k,v in mini.experts[e].named_parameters(): v.copy_(begun['average '+e][k])
net=mini.experts[expert].requires_grad_(True); prompts=mini.prompts
avg=Average(net,0.995)
matrices,others=split(list(net.named_parameters()),PLAIN)
opts=[Muon(matrices,rate,decay=0.01),torch.optim.AdamW(others,rate*.67,(0.9,0.98),weight_decay=0.0)]
n=0
if path.exists():
    s=torch.load(path,map_location='cpu'); net.load_state_dict(s['net']); avg.values=s['avg']; n=s['n']
    for o,v in zip(opts,s['opts']): o.load_state_dict(v)
def save():
    torch.save({'net':net.state_dict(),'avg':avg.values,'n':n,'opts':[o.state_dict() for o in opts]},path.with_suffix('.tmp')); path.with_suffix('.tmp').replace(path)
bases=(rate,rate*.67)
held=Segments(folder/'latents'/'held','plain')
def check():
    now={k:p.detach().clone() for k,p in net.named_parameters()}; avg.copy_to(net); out={}
    with torch.no_grad():
        idx=[i for i in range(len(held)) if held.kinds[i]=='plain'][:56]
        t,c=held.batch(idx); y=masked(whole(t['y'],21)); g=torch.Generator().manual_seed(3); noise=torch.randn(t['z'].shape,generator=g); text=prompts(c)
        for lv in ((1.0,.95) if expert=='high' else (.85,.6,.3)):
            sg=torch.full((len(idx),),lv); e=(predict(net,mixed(t['z'],noise,sg),y,sg,text)-(noise-t['z'])).square()
            out[f'held {lv}']=round(float(e.mean()),4); out[f'subj {lv}']=round(float((e*t['where']).sum()/(t['where'].sum()*16)),4)
        for k,p in net.named_parameters(): p.copy_(now[k])
    return out
stop=[]; signal.signal(signal.SIGTERM,lambda *_: stop.append(1))
segs=None; saved=t0=time.time(); tot=[]; had=None
pred=torch.compile(predict,dynamic=False)
print(json.dumps({'start':n,**check()}),flush=True)
off=0 if expert=='high' else 500000
other='low' if expert=='high' else 'high'
OWN=int(os.environ.get('OWN','3' if expert=='high' else '4')); EVERY=10 if expert=='high' else 25
buffer=deque(maxlen=400 if expert=='high' else 800)
frozen={e:__import__('copy').deepcopy(m).requires_grad_(False) for e,m in mini.experts.items()}
OWNS,LATE=OWN,400
def refresh():
    avg.copy_to(frozen[expert]); p=folder/f'deep-{other}.pt'
    if p.exists():
        v=torch.load(p,map_location='cpu')['avg']
        with torch.no_grad():
            for k,q in frozen[other].named_parameters(): q.copy_(v[k])
@torch.no_grad()
def render(rng):
    able=[]
    while len(able)<14:
        S=segs if rng.random()<.7 else later; i=rng.randrange(len(S))
        if S.kinds[i]!='cut' and (len(able)>=4 or ' star' in S.captions[i]): able.append((S,i))
    z,ys,cs=[],[],[]
    for S,i in able:
        t,c=S.batch([i]); z.append(t['z']); ys.append(t['y']); cs+=c
    z=torch.cat(z); cond=whole(torch.cat(ys),21); y=masked(cond); text=prompts(cs); unsaid=prompts([NEGATIVE_ZH]*14)
    x=torch.randn_like(z); lv=euler_levels(rng.choice((6,8,8,8,10))).tolist()
    for a,b in zip(lv[:-1],lv[1:]):
        high=a>=BOUNDARY
        if expert=='high' and not high: break
        if a<1 and high==(expert=='high'):
            for r in range(14): buffer.append((x[r].half(),a,able[r]))
        if b==0: break
        m=frozen['high' if high else 'low']; sg=torch.full((14,),a)
        v=predn(m,x,y,sg,text); w=predn(m,x,y,sg,unsaid); v=w+GUIDANCE*(v-w); x=x+(b-a)*v
predn=predict
def starry(S,count,rng):
    # three in ten more are stars, which are the hardest
    out=[]
    while len(out)<count:
        i=choose(S,expert,1,rng)[0]; star=rng.random()<STARS
        while star and ' star' not in S.captions[i]: i=choose(S,expert,1,rng)[0]
        out.append(i)
    return out
ownl=[]; STARS=.3
while n<total and not stop:
    if segs is None or n%50==0:
        count=len(list((folder/'latents').glob('*.safetensors')))
        if count!=had: segs=Segments(folder/'latents','plain','cut'); later=Segments(folder/'latents','later'); had=count
    f=schedule(n/total,0.02,hold)
    for o,b in zip(opts,bases):
        for g in o.param_groups: g['lr']=b*f
    torch.manual_seed(217_000_003+n+off); rng=random.Random(19_700_000+n+off)
    OWN=OWNS if n>=LATE else 0
    if n>=LATE and (n%100==0 or not buffer): refresh()
    if n>=LATE and not buffer:
        for k in range(6): render(random.Random(5_500_000+n+off+1000*k))
    if n>=LATE and n%EVERY==0: render(random.Random(5_000_000+n+off))
    A=(14-OWN)*2//3
    t,c=segs.batch(starry(segs,A,rng)); t2,c2=later.batch(starry(later,14-OWN-A,rng))
    own=[buffer[rng.randrange(len(buffer))] for _ in range(OWN)]
    ts=[t,t2]; c=c+c2
    for _,_,(S,i) in own:
        q,w=S.batch([i]); ts.append(q); c=c+w
    t={k:torch.cat([q[k] for q in ts]) for k in ('z','where','y')}
    if n%UNPROMPTED==UNPROMPTED-1: c=[rng.choices(NOTHING,(2,2,1))[0]]*14
    sigma=torch.cat([E.draw_sigmas(14-OWN,expert),torch.tensor([a for _,a,_ in own])])
    with torch.no_grad(): text=prompts(c)
    N=14-OWN; full=whole(t['y'],21)
    y=torch.cat([any_given(t['z'][:N],full[:N],rng),masked(full[N:])]); noise=torch.randn_like(t['z'])
    x=mixed(t['z'],noise,sigma); 
    if OWN: x[N:]=torch.stack([q.float() for q,_,_ in own])
    target=(x-t['z'])/sigma[:,None,None,None,None]
    v=pred(net,x,y,sigma,text)
    each=shown(v-target,BIAS*even(t['where'],t['z']))*torch.cat([torch.ones(N),(sigma[N:]/.6).square().clamp(max=1)])
    l=each.mean(); ownl.append(float(each[N:].mean().detach()) if OWN else 0.)
    l.backward(); tot.append(float(each[:N].mean().detach()))
    for o in opts: o.step(); o.zero_grad(set_to_none=True)
    avg.update(net,n); n+=1
    if n%50==0:
        print(json.dumps({'n':n,'lr':round(f,3),'loss':round(sum(tot)/len(tot),4),'own':round(sum(ownl[-50:])/len(ownl[-50:]),4),'segs':len(segs)+len(later),'s':round(time.time()-t0),**(check() if n%200==0 else {})}),flush=True); tot=[]
    if time.time()-saved>100 or n==total or stop: save(); saved=time.time()
save()
