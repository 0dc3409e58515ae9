import torch, flow, chain, os
ETA=float(os.environ.get('ETA','1'))
def ancestral(experts,noise,condition,text,steps=8,unsaid=None,given=1,**_):
    x,y,lv=noise,flow.masked(condition,given),flow.euler_levels(steps); g=torch.Generator().manual_seed(int(noise.abs().sum()*1000)%2**31)
    for now,then in zip(lv[:-1].tolist(),lv[1:].tolist()):
        m=experts['high' if now>=flow.BOUNDARY else 'low']; sg=torch.full((len(x),),now)
        v=flow.predict(m,x,y,sg,text); w=flow.predict(m,x,y,sg,unsaid); v=w+flow.GUIDANCE*(v-w)
        down=then*(1+(then/now-1)*ETA); x=x+(down-now)*v
        if then>0:
            r=(1-then)/(1-down); x=r*x+(then**2-(down*r)**2)**.5*torch.randn(x.shape,generator=g)
    return x
chain.sample=ancestral
